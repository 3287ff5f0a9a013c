"""The migrations through the tools of a platform's developer: the Supabase CLI itself, and psql."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import socketserver
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.wire.catalog import BASES, JOBS, STEPS, Project

ROOT = Path(__file__).parents[2]
CLI = ROOT / "tests/npm/node_modules/@supabase/cli-linux-x64/bin/supabase"
NAMES = list(STEPS)
RECORDED = [(step.version, name) for name, step in STEPS.items()]
NOWHERE = "http://127.0.0.1:9"  # the port of those who listen to nobody

SOME_ROWS = """
reset role;
insert into auth.users (id) values ('a0000000-0000-4000-8000-000000000001');
insert into public.local_training_jobs (user_id, model_name, status, job_token)
  select 'a0000000-0000-4000-8000-000000000001', 'tiny', 'running', repeat('t', 40) || n
  from generate_series(1, 1200) n;
"""
MADE_OF = {"shipped": (*BASES["shipped"], SOME_ROWS), "empty": BASES["empty"]}


def pump(source, target):
    with suppress(OSError):  # reset by either side
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Relay(socketserver.ThreadingTCPServer):
    """A port of this machine that leads to the unix socket of a database server."""

    def __init__(self, path):
        self.path = path
        super().__init__(("127.0.0.1", 0), Relayed)


class Relayed(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as database:
            database.connect(self.server.path)
            back = threading.Thread(target=pump, args=(database, self.request))
            back.start()
            pump(self.request, database)
            back.join()


@pytest.fixture(scope="module")
def port(cluster):
    where = psycopg.conninfo.conninfo_to_dict(cluster.dsn("postgres"))
    with Relay(f"{where['host']}/.s.PGSQL.{where['port']}") as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay.server_address[1]
        relay.shutdown()


@pytest.fixture
def supabase(port, tmp_path):
    """Run a command of the Supabase CLI in a checkout, against the database of a project, as its owner."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("tests/npm brings the Supabase CLI for Linux on x86_64")
    assert CLI.is_file(), f"{CLI} is missing: npm ci --prefix tests/npm"
    checkout = tmp_path / "checkout"
    for folder in ("migrations", "rollbacks"):
        shutil.copytree(ROOT / "supabase" / folder, checkout / "supabase" / folder)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_COLOR": "1"}
    environ |= {"SUPABASE_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1"}
    environ |= {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE}

    def run(project, *command):
        remote = f"postgresql://project_owner:any@127.0.0.1:{port}/{project.database}?sslmode=disable"
        ended = subprocess.run(
            [CLI, *command, "--yes", f"--remote={remote}"],
            cwd=checkout,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


@contextmanager
def made(cluster, base):
    with Project(cluster, f"{base} for the tools", *MADE_OF[base]) as project:
        yield project


def recorded(project):
    return project.ask("select version, name from supabase_migrations.schema_migrations order by version")


def psql(cluster, project, folder, steps):
    files = [f"--file={ROOT / 'supabase' / folder / STEPS[step].name}.sql" for step in steps]
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    command = ["psql", *options, *files, cluster.dsn(project.database, "project_owner")]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


@pytest.mark.parametrize("base", MADE_OF)
def test_db_push_applies_and_records_every_migration_once(cluster, supabase, base):
    with made(cluster, base) as project, made(cluster, base) as by_hand:
        supabase(project, "db", "push")
        by_hand.up(*NAMES)
        assert recorded(project) == RECORDED
        assert project.in_force() == set(NAMES)
        assert project.describe() == by_hand.describe()
        assert project.rows() == by_hand.rows()
        assert "up to date" in supabase(project, "db", "push")
        assert recorded(project) == RECORDED


def test_db_push_runs_every_file_again_where_the_record_was_taken_back(cluster, supabase):
    with made(cluster, "shipped") as project:
        supabase(project, "db", "push")
        schema, rows = project.describe(), project.rows()
        versions = [version for version, _ in RECORDED]
        supabase(project, "migration", "repair", "--status", "reverted", *versions)
        assert recorded(project) == []
        supabase(project, "db", "push")
        assert recorded(project) == RECORDED
        assert project.describe() == schema
        assert project.rows() == rows


def test_db_push_brings_back_what_rollbacks_took_away(cluster, supabase):
    kept, taken_back = NAMES[:4], NAMES[4:]
    with made(cluster, "shipped") as project:
        project.up(*NAMES)
        schema, rows = project.describe(), project.rows()
        project.down(*reversed(taken_back))
        assert project.in_force() == set(kept)
        versions = [STEPS[name].version for name in kept]
        supabase(project, "migration", "repair", "--status", "applied", *versions)
        supabase(project, "db", "push")
        assert recorded(project) == RECORDED
        assert project.describe() == schema
        assert project.rows() == rows


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not on PATH")
@pytest.mark.parametrize("base", MADE_OF)
def test_psql_runs_migrations_and_rollbacks_as_files(cluster, base):
    with made(cluster, base) as project, made(cluster, base) as by_hand:
        psql(cluster, project, "migrations", NAMES)
        by_hand.up(*NAMES)
        assert project.describe() == by_hand.describe()
        psql(cluster, project, "rollbacks", reversed(NAMES))
        by_hand.down(*reversed(NAMES))
        assert project.describe() == by_hand.describe()
        assert project.has(JOBS) == (base == "shipped")
