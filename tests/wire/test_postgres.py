"""A PostgreSQL of our own: its SQL, and that it leaves nothing behind however we end."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from agent import migrations
from agent.sandbox.postgres import Cluster, PostgresError, sql
from agent.sandbox.postgres import binaries as programs
from agent.sandbox.postgres import cluster as cluster_module

ROOT = Path(__file__).parents[2]
PATIENCE_S = 15.0
AS_SHIPPED = (sql("roles"), sql("jobs_table"), sql("weak_policies"))
JOB = "reset role; insert into auth.users (id) values (gen_random_uuid()); set role project_owner;"
JOB += " insert into public.local_training_jobs (user_id, model_name, status, job_token)"
JOB += " select id, 'tiny', 'running', repeat('t', 40) from auth.users"
TOKEN_HEADER = '{"x-job-token": "' + "t" * 40 + '"}'


@pytest.fixture(params=["system", "wheel"], scope="module")
def binaries(request):
    """Every PostgreSQL of this machine; with none at all, the tests that take the default fail."""
    for folder in getattr(programs, request.param)():
        return folder
    return pytest.skip(f"no PostgreSQL from a {request.param} here")


@pytest.fixture(scope="module")
def cluster(binaries):
    with Cluster(binaries=binaries) as running:
        yield running


def ask(cluster, database, statement, **how):
    with psycopg.connect(cluster.dsn(database, **how)) as connection:
        cursor = connection.execute(statement)
        while cursor.nextset():
            pass
        return cursor.fetchall()


def folder_of(cluster):
    return Path(psycopg.conninfo.conninfo_to_dict(cluster.dsn("postgres"))["host"])


def pid_of(folder):
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def processes_of(folder):
    """Processes that have the folder on their command line; a zombie has none."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in line.read_bytes():
                found.append(int(line.parent.name))
        except OSError:  # ended meanwhile
            continue
    return found


def is_initdb(pid):
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == "initdb"
    except OSError:  # ended meanwhile
        return False


def eventually(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def python(program, **environ):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=ROOT,
        env=os.environ | environ,
    )


def test_it_is_the_server_that_its_version_says_and_no_network_reaches_it(cluster):
    (name, *_), *_ = ask(cluster, "postgres", "show server_version")
    assert name.split()[0] == cluster.version
    settings = "listen_addresses", "timezone", "server_encoding", "fsync"
    shown = [ask(cluster, "postgres", f"show {name}")[0][0] for name in settings]
    assert shown == ["", "UTC", "UTF8", "off"]


def test_nobody_else_enters_its_folder_and_it_does_not_run_as_root(cluster):
    folder = folder_of(cluster)
    assert folder.stat().st_mode & 0o777 == 0o700
    server = Path(f"/proc/{pid_of(folder)}").stat()
    assert server.st_uid == folder.stat().st_uid
    assert server.st_uid == os.geteuid() or (os.geteuid() == 0 and server.st_uid != 0)


def test_the_policies_as_shipped_show_the_public_every_token_and_the_hardened_ones_none(cluster):
    shipped = cluster.create_database(cluster.template("shipped", *AS_SHIPPED, JOB))
    steps = [step.sql for step in migrations.load()]
    hardened = cluster.create_database(cluster.template("hardened", *AS_SHIPPED, JOB, *steps))
    anybody = "set role anon; select job_token from public.local_training_jobs"
    assert ask(cluster, shipped, anybody, user="authenticator") == [("t" * 40,)]
    with pytest.raises(errors.InsufficientPrivilege):
        ask(cluster, hardened, anybody, user="authenticator")

    with psycopg.connect(cluster.dsn(hardened, user="authenticator")) as pod:
        pod.execute("set role anon")
        status = "select status from public.local_training_jobs"
        assert pod.execute(status).fetchall() == []
        pod.execute("select set_config('request.headers', %s, true)", [TOKEN_HEADER])
        assert pod.execute(status).fetchall() == [("running",)]


def test_a_template_is_made_once_and_its_copies_do_not_see_each_other(cluster):
    cluster.template("numbers", "create table n (i int)", "insert into n values (1)")
    assert cluster.template("numbers", "select 1/0") == "numbers"
    one, other = cluster.create_database("numbers"), cluster.create_database("numbers")
    assert one != other
    with psycopg.connect(cluster.dsn(one)) as connection:
        connection.execute("insert into n values (2)")
    assert ask(cluster, one, "select i from n order by i") == [(1,), (2,)]
    assert ask(cluster, other, "select i from n") == [(1,)]
    assert ask(cluster, cluster.create_database(), "select to_regclass('n')") == [(None,)]


def test_a_template_whose_script_fails_is_not_there(cluster):
    with pytest.raises(errors.DivisionByZero):
        cluster.template("broken", "create table half ()", "select 1/0")
    cluster.template("broken", "create table whole ()")
    found = ask(
        cluster, cluster.create_database("broken"), "select to_regclass('half'), to_regclass('whole')"
    )
    assert found == [(None, "whole")]


def test_a_database_is_dropped_under_those_who_use_it(cluster):
    name = cluster.create_database()
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        cluster.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(cluster.dsn(name))


def test_threads_make_databases_at_the_same_time(cluster):
    def use(number):
        name = cluster.create_database(cluster.template(f"roles_{number % 2}", sql("roles")))
        assert ask(cluster, name, "select to_regclass('auth.users')") == [("auth.users",)]
        return name

    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(use, range(8)))
    assert len(set(names)) == 8


def test_two_servers_live_side_by_side_and_each_takes_its_folder_with_it():
    with Cluster() as one:
        with Cluster() as other:
            folders = folder_of(one), folder_of(other)
            assert len(set(folders)) == 2
            one.template("mine")
            assert not ask(other, "postgres", "select 1 from pg_database where datname = 'mine'")
        assert not folders[1].exists()
        assert ask(one, "mine", "select 1") == [(1,)]
    assert not folders[0].exists()
    assert processes_of(folders[0]) == processes_of(folders[1]) == []


def test_a_closed_server_can_be_closed_and_started_again():
    cluster = Cluster()
    cluster.close()
    with cluster:
        cluster.template("once", "create table first ()")
        session = psycopg.connect(cluster.dsn("once"))
        folder = folder_of(cluster)
        cluster.close()
        assert not folder.exists()
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
        session.close()
        with pytest.raises(PostgresError, match="not running"):
            cluster.create_database()

        cluster.start()
        cluster.template("once", "create table second ()")
        assert ask(cluster, "once", "select to_regclass('first'), to_regclass('second')") == [
            (None, "second")
        ]


RUNNING = """
import os, time
from pathlib import Path
from agent.sandbox.postgres import cluster
def tell(self, process, folder):
    print(folder, flush=True)
    {then}
answered = cluster.Cluster._wait_until_it_answers
cluster.Cluster._wait_until_it_answers = tell
running = cluster.Cluster(binaries=Path(os.environ["BINARIES"])).start()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["serving", "starting"])
def test_a_server_does_not_outlive_us_when_we_are_killed(moment, binaries):
    then = {"serving": "answered(self, process, folder)", "starting": "time.sleep(60)"}[moment]
    with python(RUNNING.format(then=then), BINARIES=str(binaries)) as parent:
        folder = Path(parent.stdout.readline().strip())
        if moment == "serving":
            assert parent.stdout.readline() == "ready\n"
            assert pid_of(folder) in processes_of(folder)
        else:
            eventually(lambda: any(map(is_initdb, processes_of(folder))))
        parent.kill()
    eventually(lambda: not processes_of(folder))
    eventually(lambda: not folder.exists())


def test_a_ctrl_c_in_the_terminal_leaves_the_server_to_us():
    program = """
import psycopg, time
from agent.sandbox.postgres import Cluster
with Cluster() as running:
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        with psycopg.connect(running.dsn("postgres")) as connection:
            print(connection.execute("select 'still here'").fetchone()[0])
"""
    with python(program) as parent:
        assert parent.stdout.readline() == "ready\n"
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.read() == "still here\n"
    assert parent.returncode == 0


@pytest.fixture
def temporary(monkeypatch):
    """A TMPDIR that the server's user reaches; pytest's own is closed to everybody but us."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(monkeypatch, temporary):
    monkeypatch.setitem(cluster_module._SETTINGS, "shared_buffers", "plenty")
    with pytest.raises(PostgresError, match='invalid value for parameter "shared_buffers": "plenty"'):
        Cluster().start()
    assert list(temporary.iterdir()) == []


def test_a_start_that_is_given_up_ends_what_it_began(monkeypatch):
    monkeypatch.setattr(cluster_module, "_READY_S", -1.0)
    folders = []
    monkeypatch.setattr(cluster_module, "_last_lines", lambda log: folders.append(log.parent) or "")
    with pytest.raises(PostgresError, match="does not answer"):
        Cluster().start()
    assert not folders[0].exists()
    assert processes_of(folders[0]) == []


def test_a_server_that_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr(cluster_module, "_SHUTDOWN_S", 0.1)
    with Cluster() as cluster:
        folder = folder_of(cluster)
        os.kill(pid_of(folder), signal.SIGSTOP)
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    subprocess.run(
        ["ipcrm", "-m", lines[6].split()[1]], check=False
    )  # the kernel's, who keeps it after a kill
    eventually(lambda: not processes_of(folder))


@pytest.mark.parametrize(("name", "mode"), [("x" * 100, 0o755), ("private", 0o700)], ids=["long", "closed"])
def test_a_temporary_folder_that_does_not_serve_is_left_as_it_is(name, mode, monkeypatch, temporary):
    """The address of a socket is short, and root's private folders are closed to the server's user."""
    place = temporary / name
    place.mkdir()
    place.chmod(mode)
    monkeypatch.setenv("TMPDIR", str(place))
    with Cluster() as cluster:
        assert ask(cluster, "postgres", "select 1") == [(1,)]
        assert os.geteuid() != 0 or not folder_of(cluster).is_relative_to(place)
    assert list(place.iterdir()) == []
    assert place.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be closed to the server's user")
def test_programs_that_the_servers_user_cannot_reach_are_copied(tmp_path):
    wheel = next(programs.wheel(), None)
    if wheel is None:
        pytest.skip("the embedded wheel is not installed")
    package, home = wheel.parents[1], tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / package.name).symlink_to(package)
    (home / f"{package.name}.libs").symlink_to(package.with_name(f"{package.name}.libs"))
    with Cluster(binaries=home / package.name / "pginstall" / "bin") as cluster:
        folder = folder_of(cluster)
        assert Path(f"/proc/{pid_of(folder)}/exe").readlink().is_relative_to(folder)
    assert not folder.exists()
    assert home.stat().st_mode & 0o777 == 0o700


def test_settings_of_other_postgresqls_do_not_leak_in(monkeypatch):
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGDATA"):
        monkeypatch.setenv(name, "1")
    with Cluster() as cluster:
        assert ask(cluster, "postgres", "select current_user") == [("postgres",)]


def install(folder, version):
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version} (Debian)'\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_system_postgresql_that_runs_is_preferred_the_one_on_path_first_then_the_newest(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(programs, "_DEBIAN", tmp_path / "lib")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    for version in ("9", "13.2", "15.18", "17.1"):
        install(tmp_path / "lib" / version.split(".")[0] / "bin", version)
    (install(tmp_path / "lib" / "18" / "bin", "18.1") / "postgres").write_text("#!/bin/sh\nexit 127\n")
    assert [folder.parent.name for folder in programs.system()] == ["17", "15"]
    assert programs.find() == tmp_path / "lib" / "17" / "bin"

    (tmp_path / "path").mkdir()
    for name in ("postgres", "initdb"):
        (tmp_path / "path" / name).symlink_to(tmp_path / "lib" / "15" / "bin" / name)
    assert programs.find() == tmp_path / "lib" / "15" / "bin"
    assert Cluster().version == "15.18"


def test_a_machine_without_postgresql_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "_DEBIAN", tmp_path)
    monkeypatch.setattr(programs, "wheel", lambda: iter(()))
    monkeypatch.setenv("PATH", str(install(tmp_path / "old", "13.9")))
    with pytest.raises(
        PostgresError, match=r"pip install 'training-completion-agent\[demo\]'.*apt-get install"
    ):
        Cluster()
