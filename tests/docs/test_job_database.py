"""The platform developer's page: its SQL and TypeScript are run, its tables compared with the database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from agent import migrations
from agent.jobs.heartbeat import INTERVAL_S
from agent.sandbox.jobs_app import JobsApp, JobSecret
from agent.sandbox.postgres import binaries

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "job-database.md").read_text(encoding="utf-8")
SNIPPET = (ROOT / "docs" / "job-progress.ts").read_text(encoding="utf-8")
MODULES = ROOT / "tests" / "npm" / "node_modules"
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
NOBODY = "\u2013"
EXAMPLE = "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"  # the job of the page
MODEL = "https://huggingface.co/ada/model"
STEPS = {step.name.partition("_")[2]: step for step in migrations.load()}


def table(head):
    """The cells of the table whose first column is called so."""
    lines = PAGE.split(f"\n| {head} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(text):
    return re.findall(r"`([^`]+)`", text)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def editor(to):
    """What the page tells to run in the SQL editor in order to do something."""
    (statement,) = [names(cells[1])[0] for cells in table("to") if to in cells[0]]
    return statement


def owner_of(app):
    """How the SQL editor connects: as the owner of a hosted project, who may make schemas."""
    app.sql(f"grant create on database {app.database} to project_owner")
    return app._cluster.dsn(app.database, "project_owner")


def run_as_owner(app, *statements):
    """Run each on its own, as the SQL editor does."""
    with psycopg.connect(owner_of(app), autocommit=True, row_factory=dict_row) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def platform(cluster):
    """One migrated database for all tests that only need rows of their own."""
    with JobsApp(cluster) as running:
        yield running


# What the page shows is what is there


def test_every_link_leads_somewhere():
    anchors = {
        heading.lower().replace(",", "").replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert links
    for link in links:
        assert link[1:] in anchors if link[0] == "#" else (ROOT / "docs" / link).is_file(), link


def test_the_migrations_are_listed_in_order_with_their_own_words():
    steps = [[f"`{step.name}`", step.title, step.without] for step in migrations.load()]
    assert table("file") == steps


def test_the_snippet_is_the_file_beside_the_page():
    assert SNIPPET in blocks("ts")


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def run(command, app, job):
    """Run a command of the page as the owner of the database, and as the pod of a job, would."""
    environ = {
        "PATH": f"{binaries.find()}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": owner_of(app),
        **app.environ(job),
    }
    line = f"set -o pipefail; {command.replace('python ', f'{sys.executable} ')}"
    return subprocess.run(["bash", "-c", line], env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(command, platform):
    done = run(command, platform, platform.add_job())
    assert done.returncode == 0, done.stderr


def test_one_command_brings_an_old_database_up_to_date(legacy_app):
    (command,) = [command for command in COMMANDS if "psql" in command]
    job = legacy_app.add_job()
    assert run(command, legacy_app, job).returncode == 0
    assert all(step["applied"] for step in legacy_app.sql("select applied from agent_migrations()"))
    (check,) = [command for command in COMMANDS if "--check" in command]
    legacy_app.rest.refresh()
    assert run(check, legacy_app, job).returncode == 0


# What the migrations change


def rights(app):
    """Who may do what with the table: policies, grants, and what Realtime is sent."""
    policies = app.sql(
        "select policyname, permissive, roles, cmd, qual, with_check from pg_policies"
        " where tablename = 'local_training_jobs' order by policyname"
    )
    grants = app.sql(
        "select grantee, privilege_type, column_name from information_schema.column_privileges"
        " where table_name = 'local_training_jobs' and not starts_with(column_name, 'rolled_back_')"
        " order by grantee, privilege_type, column_name"
    )
    published = app.sql("select tablename from pg_publication_tables where pubname = 'supabase_realtime'")
    return policies, grants, published


def test_before_the_migrations_the_public_key_reads_every_token_and_completes_any_job(legacy_app):
    job = legacy_app.add_job()
    with legacy_app.connect() as connection:
        connection.execute("set role anon")
        seen = connection.execute("select job_token from local_training_jobs").fetchall()
        connection.execute(
            "update local_training_jobs set status = 'completed', model_url = 'https://evil.example/m'"
        )
    assert seen == [{"job_token": job.token}]
    assert legacy_app.row(job.id)["model_url"] == "https://evil.example/m"


def test_after_the_migrations_the_public_key_alone_sees_and_changes_no_row(platform):
    job = platform.add_job()
    with platform.connect() as connection:
        connection.execute("set role anon")
        assert connection.execute("select id from local_training_jobs").fetchall() == []
        change = "update local_training_jobs set status = 'completed', progress = 100"
        assert connection.execute(change).rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select id from local_training_jobs where job_token = %s", [job.token])
    assert platform.visible_rows(job.id, None) == 0
    assert platform.visible_rows(job.id, job.token) == 1


@pytest.mark.parametrize("step", ["job_tokens_of_old_rows", "job_token_index"])
def test_the_two_files_that_run_alone_are_refused_in_a_transaction(step, legacy_app):
    legacy_app.add_job()
    version = STEPS[step].version
    assert f"`…{version[-4:]}`" in PAGE
    earlier = [one.sql for one in migrations.load() if one.version < version]
    run_as_owner(legacy_app, *earlier)
    with pytest.raises((psycopg.errors.ActiveSqlTransaction, psycopg.errors.InvalidTransactionTermination)):
        run_as_owner(legacy_app, f"begin;\n{STEPS[step].sql}\ncommit")


def test_the_way_back_restores_rights_keeps_values_and_can_be_taken_again(legacy_app):
    job = legacy_app.add_job()
    before = rights(legacy_app)
    assert len(before[0]) == 3
    everything = [step.sql for step in migrations.load() for _ in range(2)]
    back = [step.rollback for step in reversed(migrations.load())]

    run_as_owner(legacy_app, *everything)
    kept = {one["policyname"] for one in before[0]} & {one["policyname"] for one in rights(legacy_app)[0]}
    assert kept == {"Users can view their own jobs"}
    legacy_app.sql("update local_training_jobs set status = 'failed', result_note = 'a note'")

    run_as_owner(legacy_app, *back)
    assert rights(legacy_app) == before
    assert legacy_app.row(job.id)["rolled_back_result_note"] == "a note"
    trail = "select event from private.rolled_back_model_upload_events"
    assert legacy_app.sql(trail) == [{"event": "status_changed"}]

    run_as_owner(legacy_app, *everything)
    assert legacy_app.row(job.id)["result_note"] == "a note"
    assert legacy_app.sql("select event from model_upload_events") == [{"event": "status_changed"}]


# What to run in the SQL editor


def test_a_column_that_is_added_later_is_shown_once_it_is_granted(app):
    run_as_owner(app, "alter table public.local_training_jobs add column gpu_price numeric")
    see = "set role authenticated; select gpu_price from local_training_jobs"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.sql(see)
    run_as_owner(app, editor("column"))
    app.sql(see)


def test_a_hub_of_ones_own_becomes_an_address_that_a_row_may_have(app):
    job = app.add_job()
    done = {"status": "completed", "progress": 100, "model_url": "https://hub.example.com/ada/model"}
    assert write(app, "anon", job, done) == "23514"
    run_as_owner(app, editor("Hub"))
    assert write(app, "anon", job, done) is None
    assert app.row(job.id)["metadata"] == {"hf_repo": "ada/model"}


def test_the_scheduled_line_marks_the_pods_that_vanished(app):
    line = editor("vanished")
    assert f"-- {line};" in STEPS["stale_jobs"].sql
    app.sql(
        "create schema cron; grant usage on schema cron to project_owner;"
        " create function cron.schedule(name text, timing text, command text) returns bigint"
        " language plpgsql as $$ begin execute command; return 1; end $$"
    )
    job = app.add_job(heartbeat_at="2026-01-01", updated_at="2026-01-01")
    run_as_owner(app, line)
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"]) == ("failed", "lost")


def test_a_finished_job_is_opened_with_the_setting_only(app):
    app.add_job(id=EXAMPLE, status="completed", progress=100)
    line = editor("open a finished job")
    with pytest.raises(psycopg.Error, match="completed jobs cannot be reopened"):
        run_as_owner(app, line.replace("set local app.allow_reopen = 'on';", ""))
    run_as_owner(app, line)
    assert app.row(EXAMPLE)["status"] == "running"


def test_the_query_shows_the_trail_of_a_job_that_nobody_can_change(app):
    (query,) = blocks("sql")
    job = app.add_job(id=EXAMPLE)
    app.sql("update local_training_jobs set status = 'cancelled'")
    (event,) = run_as_owner(app, query)
    (history,) = [command for command in names(PROSE) if command.endswith("agent history")]
    assert "status_changed" in run(history, app, JobSecret(EXAMPLE, job.token)).stdout
    assert (event["event"], event["from_status"], event["to_status"]) == (
        "status_changed",
        "running",
        "cancelled",
    )
    for change in ("delete from", "truncate", "update"):
        with pytest.raises(psycopg.Error, match="only grows"):
            run_as_owner(app, f"{change} model_upload_events" + " set bytes = 1" * (change == "update"))
    app.sql("delete from local_training_jobs")
    assert run_as_owner(app, query) == []


def test_the_columns_and_events_of_the_trail_are_all_listed(platform):
    columns = platform.sql(
        "select column_name from information_schema.columns where table_name = 'model_upload_events'"
    )
    cells = table("columns")
    assert {name for row in cells for name in names(row[0])} == {row["column_name"] for row in columns}
    (events,) = [names(row[1]) for row in cells if row[0] == "`event`"]
    assert set(events) == allowed(platform, "model_upload_events_event_check")


# Tokens


def test_a_token_that_is_written_plainly_is_replaced_and_revoked(platform):
    job = platform.add_job()
    platform.sql("update local_training_jobs set job_token = %s where id = %s", "n" * 43, job.id)
    assert platform.visible_rows(job.id, job.token) == 0
    assert platform.visible_rows(job.id, "n" * 43) == 1
    platform.sql("update local_training_jobs set job_token = null where id = %s", job.id)
    assert platform.visible_rows(job.id, "n" * 43) == 1
    platform.sql("update local_training_jobs set job_token_expires_at = now() where id = %s", job.id)
    assert platform.visible_rows(job.id, "n" * 43) == 0


def test_a_signed_claim_opens_the_row_of_its_job_only(platform):
    job, other = platform.add_job(), platform.add_job()
    (claims,) = re.findall(r"`(\{\"role\".*?\})`", PAGE)
    claims = json.loads(claims.replace('"job_id": "…"', f'"job_id": "{job.id}"').replace("…", "4102444800"))
    signed = platform.rest.jwt(**claims)
    assert platform._ask("GET", job.id, None, jwt=signed) == [{"id": job.id}]
    assert platform._ask("GET", other.id, None, jwt=signed) == []


# Statuses


def allowed(app, constraint):
    """The words that a check lists."""
    (found,) = app.sql(
        "select pg_get_constraintdef(oid) as said from pg_constraint where conname = %s", constraint
    )
    listed = re.search(r"ARRAY\[(.*?)\]", found["said"])[1]
    return set(re.findall(r"'(\w+)'", listed))


def states(cell):
    """The statuses that a first cell is about, each with its failure_stage."""
    first, *rest = names(cell)
    return (
        [(first, stage) for stage in rest] if "stage" in cell else [(name, None) for name in (first, *rest)]
    )


def write(app, role, job, changes, *, keep=True):
    """Change a row as a role of the API; returns the SQLSTATE of a refusal."""
    said_by = json.dumps({"x-job-token": job.token}), json.dumps({"role": role, "sub": app.owner})
    columns = ", ".join(f"{name} = %s" for name in changes)
    with app.connect() as connection:
        connection.execute(
            "select set_config('request.headers', %s, true), set_config('request.jwt.claims', %s, true)",
            said_by,
        )
        connection.execute(f"set local role {role}")
        change = f"update local_training_jobs set {columns} where id = %s returning id"
        try:
            assert connection.execute(change, [*changes.values(), job.id]).fetchall()
        except psycopg.Error as error:
            return error.sqlstate
        if not keep:
            connection.rollback()
    return None


def moves(app, role, job, statuses):
    """The statuses that a role can bring a job to."""
    reached = set()
    for status in statuses:
        done = {"progress": 100} if (role, status) == ("anon", "completed") else {}
        refusal = write(app, role, job, {"status": status} | done, keep=False)
        assert refusal in {None, "PT409"}
        reached |= {status} if refusal is None else set()
    return reached


def test_the_statuses_and_stages_are_those_that_the_database_allows(platform):
    listed = [state for cells in table("status") for state in states(cells[0])]
    assert {status for status, _ in listed} == allowed(platform, "ltj_status_chk")
    assert {stage for _, stage in listed} - {None} == allowed(platform, "ltj_stage_chk")
    from_here = {state for cells in table("from") for state in states(cells[0])}
    assert from_here == set(listed)
    assert len(listed) == len(from_here)


@pytest.mark.parametrize("cells", table("from"), ids=lambda cells: cells[0].replace("`", ""))
def test_everybody_may_set_what_the_table_says_and_is_refused_the_rest(cells, platform):
    statuses = allowed(platform, "ltj_status_chk")
    who = dict(zip(("anon", "authenticated", "service_role"), cells[1:], strict=True))
    for status, stage in states(cells[0]):
        job = platform.add_job(status=status, failure_stage=stage)
        others = statuses - {status}
        for role, cell in who.items():
            said = set() if cell.startswith(NOBODY) else set(names(cell))
            said = others - said if cell.startswith("any") else said
            assert moves(platform, role, job, others) == said, (status, stage, role)


def test_who_sets_a_status_is_who_may_set_it():
    may = {"pod": set(), "owner": set()}
    for cells in table("from"):
        for who, cell in zip(may, cells[1:], strict=False):
            may[who] |= set() if cell.startswith(NOBODY) else set(names(cell))
    for cells in table("status"):
        for status, stage in states(cells[0]):
            said = {who for who in may if who in cells[1]}
            assert said == {who for who in may if status in may[who] and stage != "lost"}, (status, stage)


def test_a_pod_never_says_that_it_is_lost(platform):
    job = platform.add_job()
    assert write(platform, "anon", job, {"status": "failed", "failure_stage": "lost"}) == "23514"


def test_a_completed_job_gets_a_missing_address_once(platform):
    job = platform.add_job(status="completed", progress=100)
    assert write(platform, "anon", job, {"model_url": MODEL}) is None
    assert write(platform, "anon", job, {"model_url": f"{MODEL}-2"}) == "PT409"
    assert platform.row(job.id)["model_url"] == MODEL


def test_completed_by_the_server_brings_progress_100(platform):
    job = platform.add_job(progress=40)
    assert write(platform, "service_role", job, {"status": "completed"}) is None
    assert platform.row(job.id)["progress"] == 100


def test_what_the_pod_writes_and_what_the_database_keeps(platform):
    theirs, ours = re.search(r"The pod writes (.*?)\. The database keeps (.*?)\.\n", PAGE, re.DOTALL).groups()
    assert names(theirs) == platform.sql("select private.pod_columns() as names")[0]["names"]
    job = platform.add_job(progress=10, updated_at="2026-01-01")
    before = platform.row(job.id)
    assert write(platform, "anon", job, {"progress": 9}) == "PT409"
    done = {"status": "completed", "progress": 100, "model_url": MODEL}
    assert write(platform, "anon", job, done) is None
    row = platform.row(job.id)
    kept = {name for name in row if row[name] != before[name]} - done.keys()
    assert kept == {name.partition(".")[0] for name in names(ours)}
    assert row["metadata"] == {"hf_repo": "ada/model"}
    for name in kept:
        assert write(platform, "anon", job, {name: None}) == "42501"


def test_the_heartbeat_moves_as_often_as_the_page_says():
    assert f"moves every {INTERVAL_S:.0f} seconds" in PAGE


# TypeScript

NODE_TYPES = """
declare module 'node:crypto' {
  export function randomBytes(size: number): { toString(encoding: 'base64url'): string }
  export function createHash(name: 'sha256'): { update(text: string): { digest(encoding: 'hex'): string } }
}
"""
REACT = """
import type { SupabaseClient } from '@supabase/supabase-js'
import { type Job, watchJob } from './job-progress.js'
declare function useEffect(effect: () => void | (() => void), inputs: unknown[]): void
declare const db: SupabaseClient, id: string, setJob: (job: Job | null) => void
"""
SETTINGS = {
    "compilerOptions": {
        "strict": True, "noUncheckedIndexedAccess": True, "exactOptionalPropertyTypes": True,
        "module": "nodenext", "target": "es2022", "lib": ["es2022", "dom"], "types": [],
        "skipLibCheck": True, "noEmitOnError": True,
    },
}  # fmt: skip

# Clients of a user and of a server. Instead of a WebSocket they have Realtime's side of its protocol, as far
# as needed: it takes whoever joins, at once or when told to, rings, hangs up. Intervals pass when told to.
CLIENTS = """
import { createClient } from '@supabase/supabase-js'
import * as progress from './job-progress.js'
import { addJob } from './add-job.js'
const { env } = process
const heard = [], lines = []
let takesAtOnce = true
class Line {
  members = []
  constructor() {
    lines.push(this)
    queueMicrotask(() => { this.readyState = 1; this.onopen({}) })
  }
  send(text) {
    const [join, ref, topic, event, payload] = JSON.parse(text)
    const member = { join, ref, topic, changes: payload.config?.postgres_changes }
    heard.push([event, member.changes])
    if (event === 'phx_join') this.members.push(member)
    else this.say(member, 'phx_reply', { status: 'ok', response: {} }, ref)
    if (takesAtOnce) this.take()
  }
  say({ join, topic }, event, payload, ref = null) {
    const data = JSON.stringify([join, ref, topic, event, payload])
    queueMicrotask(() => this.readyState === 1 && this.onmessage({ data }))
  }
  tell(event, payload) { for (const member of this.members) this.say(member, event, payload) }
  take() {
    for (const member of this.members.filter(({ taken }) => !taken)) {
      const changes = member.changes.map((change) => ({ id: 1, ...change }))
      this.say(member, 'phx_reply', { status: 'ok', response: { postgres_changes: changes } }, member.ref)
      member.taken = true
    }
  }
  ring() {
    const data = { type: 'UPDATE', schema: 'public', table: 'local_training_jobs', columns: [], record: {} }
    this.tell('postgres_changes', { ids: [1], data })
  }
  close() { this.readyState = 3; this.onclose({ code: 1006 }) }
}
const clocks = new Map()
globalThis.setInterval = (call, every) => { clocks.set(call, every); return call }
globalThis.clearInterval = (call) => clocks.delete(call)
const tick = () => clocks.forEach((_, call) => call())
const turn = () => new Promise((resolve) => setImmediate(resolve))
const auth = { persistSession: false, autoRefreshToken: false }
const realtime = { transport: Line, reconnectAfterMs: () => 1 }
const admin = createClient(env.URL, env.SECRET, { auth, realtime })
const as = (token, fetched = fetch) =>
  createClient(env.URL, env.KEY, { realtime, accessToken: async () => token, global: { fetch: fetched } })
const db = as(env.USER)
const jobs = (client) => client.from('local_training_jobs')
const print = (value) => console.log(JSON.stringify(value))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The page's TypeScript beside the real client library."""
    if not (MODULES / ".bin" / "tsc").exists():
        pytest.fail(
            "the page's TypeScript needs a compiler and the client: run `npm ci` in tests/npm", pytrace=False
        )
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps(SETTINGS))
    (add_job,) = [block for block in blocks("ts") if block != SNIPPET]
    (effect,) = [code for code in names(PROSE) if code.startswith("useEffect(")]
    sources = {"job-progress": SNIPPET, "add-job": add_job, "node.d": NODE_TYPES, "react": REACT + effect}
    for name, source in sources.items():
        (folder / f"{name}.ts").write_text(source)
    return folder


@pytest.fixture(scope="module")
def compiler(project):
    """What the compiler said of it."""
    tsc = [MODULES / ".bin" / "tsc", "--project", project]
    return subprocess.run(tsc, capture_output=True, text=True, check=False)


@pytest.fixture
def node(project, compiler, platform):
    """Run a script in an app that has the page's TypeScript; returns what it printed, a line a value."""

    def run_script(script, **environ):
        assert compiler.returncode == 0, compiler.stdout
        user = platform.rest.jwt("authenticated", sub=platform.owner)
        keys = {"URL": platform.url, "KEY": platform.key, "SECRET": platform.rest.secret_key, "USER": user}
        command = ["node", "--input-type=module", "--eval", f"{CLIENTS}{script}; process.exit()"]
        done = subprocess.run(
            command, cwd=project, env={"PATH": os.environ["PATH"]} | keys | environ,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run_script


def test_the_typescript_of_the_page_satisfies_the_strict_compiler(compiler):
    assert compiler.returncode == 0, compiler.stdout


def test_the_snippet_knows_the_statuses_and_stages_of_the_database(platform):
    """Each with a sentence of its own, else the compiler refuses."""
    active, final, stages = (
        re.search(pattern, SNIPPET)[1]
        for pattern in (r"const ACTIVE = (.*)", r"status: (.*)", r"failure_stage: (.*)")
    )
    assert set(re.findall(r"'(\w+)'", active + final)) == allowed(platform, "ltj_status_chk")
    assert set(re.findall(r"'(\w+)'", stages)) == allowed(platform, "ltj_stage_chk")


def test_a_minted_token_opens_the_row_and_is_nowhere_in_the_database(node, platform):
    script = "print(await addJob(admin, env.OWNER, 'tiny'))"
    ((minted,),) = [node(script, OWNER=platform.owner)]
    row = platform.row(minted["JOB_ID"])
    assert (row["status"], str(row["user_id"]), row["job_token"]) == ("pending", platform.owner, None)
    assert re.fullmatch(r"[\w-]{43}", minted["JOB_TOKEN"])
    assert row["job_token_expires_at"] > row["created_at"]
    assert platform.visible_rows(minted["JOB_ID"], minted["JOB_TOKEN"]) == 1
    assert platform.visible_rows(minted["JOB_ID"], "x" * 43) == 0


def test_the_owner_reads_named_columns_and_no_other_job(node, platform):
    job = platform.add_job(progress=42, heartbeat_at="2026-01-01 12:00+00")
    script = """
        print(await progress.readJob(db, env.JOB))
        print((await jobs(db).select('*').eq('id', env.JOB)).error.code)
        print(await progress.readJob(as(env.OTHER), env.JOB))
    """
    other = platform.rest.jwt("authenticated", sub=EXAMPLE)
    seen, refused, hidden = node(script, JOB=job.id, OTHER=other)
    assert seen == {
        "id": job.id, "status": "running", "progress": 42, "model_url": None, "error_message": None,
        "result_note": None, "failure_stage": None, "heartbeat_at": "2026-01-01T12:00:00+00:00",
    }  # fmt: skip
    assert refused == "42501"
    assert hidden is None


def test_the_owner_cancels_an_active_job_once_and_sets_nothing_else(node, platform):
    job = platform.add_job()
    script = """
        print((await jobs(db).update({ status: 'completed' }).eq('id', env.JOB)).status)
        print(await progress.cancelJob(as(env.OTHER), env.JOB))
        print(await progress.cancelJob(db, env.JOB))
        print(await progress.cancelJob(db, env.JOB))
    """
    other = platform.rest.jwt("authenticated", sub=EXAMPLE)
    assert node(script, JOB=job.id, OTHER=other) == [409, False, True, False]
    assert platform.row(job.id)["status"] == "cancelled"


def test_the_server_marks_the_pods_that_vanished(node, platform):
    job = platform.add_job(heartbeat_at="2026-01-01", updated_at="2026-01-01")
    (call,) = [code for code in names(table("to")[2][0]) if code.startswith("rpc(")]
    assert node(f"print((await admin.{call}).data)") == [[job.id]]
    assert platform.row(job.id)["failure_stage"] == "lost"


def test_what_is_final_can_still_be_added_to(node, platform):
    job = platform.add_job(status="completed", progress=100, result_note="No HF_TOKEN.")
    (call,) = [code for code in names(PROSE) if code.startswith("rpc('note_on_job'")]
    script = f"""
        const global = {{ headers: {{ 'x-job-token': env.TOKEN }} }}
        const pod = createClient(env.URL, env.KEY, {{ auth, realtime, global }})
        const job = env.JOB, note = 'Nothing could stop this pod.'
        for (const _ of [1, 2]) print((await pod.{call}).data)
        print((await as(env.USER).{call}).error.code)
    """
    before = platform.row(job.id)
    assert node(script, JOB=job.id, TOKEN=job.token) == [True, True, "42501"]
    said = {"result_note": "No HF_TOKEN.\nNothing could stop this pod."}
    assert platform.row(job.id) == before | said


def test_what_is_shown_follows_the_row_whatever_happens_to_the_connection(node, platform):
    """At first, subscribed, as changes begin to flow, when it rings, when the line is back, by the clock."""
    job = platform.add_job(progress=10)
    script = """
        takesAtOnce = false
        const shown = []
        let asked = 0
        const counted = as(env.USER, (...request) => { asked += 1; return fetch(...request) })
        let next, stop
        const show = (job) => { shown.push(job.progress); next() }
        const seeing = (change) => new Promise((resolve) => { next = resolve; change() })
        const write = (progress) => jobs(admin).update({ progress }).eq('id', env.JOB).throwOnError()
        const joined = async (line) => { while (!lines[line]?.members.length) await turn() }

        await seeing(() => { stop = progress.watchJob(counted, env.JOB, show, (error) => { throw error }) })
        await write(20)
        await joined(0)
        await seeing(() => lines[0].take())
        await write(30)
        await seeing(() => lines[0].tell('system', { status: 'ok', extension: 'postgres_changes' }))
        await write(40)
        await seeing(() => lines[0].ring())
        await write(50)
        lines[0].close()
        await joined(1)
        await seeing(() => lines[1].take())
        await write(60)
        await seeing(() => tick())
        print([...clocks.values()])
        stop()
        await write(70)
        lines[1].ring()
        tick()
        await turn()
        print({ shown, heard, asked })
    """
    clocks, printed = node(script, JOB=job.id)
    assert clocks == [30_000]
    assert printed["shown"] == [10, 20, 30, 40, 50, 60]
    assert printed["asked"] == 6
    asked = {
        "event": "UPDATE",
        "schema": "public",
        "table": "local_training_jobs",
        "filter": f"id=eq.{job.id}",
    }
    joins = [changes for event, changes in printed["heard"] if event == "phx_join"]
    assert joins == [[asked], [asked]]
    assert "phx_leave" in [event for event, _ in printed["heard"]]


def test_an_answer_that_is_late_changes_nothing_that_is_shown(node, platform):
    job = platform.add_job(progress=10)
    script = """
        takesAtOnce = false
        const answers = []
        const posted = async (...request) => {
          const body = await (await fetch(...request)).text()
          return new Promise((go) => answers.push((status = 200) => go(new Response(body, { status }))))
        }
        const asked = async (count) => { while (answers.length < count) await turn() }
        const shown = []
        let next
        const seeing = new Promise((resolve) => { next = resolve })
        const show = (job) => { shown.push(job.progress); next() }
        const stop = progress.watchJob(as(env.USER, posted), env.JOB, show, (error) => shown.push(error))
        await asked(1)
        tick()
        await asked(2)
        await jobs(admin).update({ progress: 20 }).eq('id', env.JOB).throwOnError()
        tick()
        await asked(3)
        answers[2]()
        await seeing
        answers[0]()
        answers[1](500)
        tick(); tick()
        await asked(5)
        stop()
        answers[3]()
        answers[4](500)
        await progress.readJob(db, env.JOB)
        print(shown)
    """
    assert node(script, JOB=job.id) == [[20]]


def test_two_views_watch_the_same_job_and_one_may_go(node, platform):
    job = platform.add_job(progress=10)
    script = """
        const seen = (client) => new Promise((resolve, reject) => {
          const stop = progress.watchJob(client, env.JOB, (job) => resolve([job.progress, stop]), reject)
        })
        const [[one, stopOne], [two, stopTwo]] = await Promise.all([seen(db), seen(db)])
        stopOne()
        const [again, stopAgain] = await seen(db)
        stopTwo(); stopAgain()
        print([one, two, again])
    """
    assert node(script, JOB=job.id) == [[10, 10, 10]]


def test_a_job_that_cannot_be_read_is_told_apart_from_one_that_is_not_there(node, platform):
    script = """
        const first = (client) => new Promise((resolve) => {
          const stop = progress.watchJob(client, env.JOB, (job) => end(job), (error) => end(error.code))
          const end = (said) => { stop(); resolve(said) }
        })
        print([await first(db), await first(as('no token'))])
    """
    assert node(script, JOB=EXAMPLE) == [[None, "PGRST301"]]


SENTENCES = [
    ({"status": "pending"}, "Waiting for a GPU."),
    ({"status": "queued"}, "Waiting for a GPU."),
    ({"status": "running"}, "Running."),
    ({"status": "running", "progress": 42.9, "heartbeat_at": "2026-01-01T11:57:01Z"}, "Running, 42 %."),
    (
        {
            "status": "running",
            "progress": 0,
            "heartbeat_at": "2026-01-01T11:57:00Z",
            "result_note": "Stopped by SIGTERM.",
        },
        "Running, 0 %. No sign of life for 3 minutes. Stopped by SIGTERM.",
    ),
    (
        {"status": "uploading", "heartbeat_at": "2026-01-01T11:00:00Z"},
        "Publishing. No sign of life for 60 minutes.",
    ),
    ({"status": "paused", "progress": 50, "heartbeat_at": "2026-01-01T11:00:00Z"}, "Paused, 50 %."),
    ({"status": "completed", "progress": 100, "model_url": MODEL}, f"Completed: {MODEL}"),
    ({"status": "completed", "result_note": "No HF_TOKEN."}, "Completed without a model. No HF_TOKEN."),
    (
        {"status": "completed", "model_url": MODEL, "result_note": "Nothing could stop this pod."},
        f"Completed: {MODEL} Nothing could stop this pod.",
    ),
    ({"status": "failed", "error_message": "CUDA out of memory"}, "Training failed. CUDA out of memory"),
    ({"status": "failed", "failure_stage": "training"}, "Training failed."),
    (
        {"status": "failed", "failure_stage": "publish", "error_message": "hub-auth: no right"},
        "Trained, but not published. hub-auth: no right",
    ),
    (
        {"status": "failed", "failure_stage": "lost", "error_message": "Heard at noon."},
        "The pod vanished. Heard at noon.",
    ),
    (
        {
            "status": "failed",
            "error_message": "Out of memory.",
            "result_note": "Nothing could stop this pod.",
        },
        "Training failed. Out of memory. Nothing could stop this pod.",
    ),
    ({"status": "cancelled", "progress": 7}, "Cancelled."),
    (
        {"status": "cancelled", "result_note": "Nothing could stop this pod."},
        "Cancelled. Nothing could stop this pod.",
    ),
]


def test_a_sentence_says_what_the_row_means(node):
    columns = ("progress", "model_url", "error_message", "result_note", "failure_stage", "heartbeat_at")
    jobs = [dict.fromkeys(columns) | job for job, _ in SENTENCES]
    script = """
        const noon = Date.parse('2026-01-01T12:00:00Z')
        for (const job of JSON.parse(env.JOBS)) print(progress.describe(job, noon))
    """
    assert node(script, JOBS=json.dumps(jobs)) == [sentence for _, sentence in SENTENCES]
