"""The migrations of the job database over the tables that they meet: up, down, twice, interrupted."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from psycopg import errors

from tests.wire.catalog import BASES, JOBS, STEPS, Project

EVENTS = "public.model_upload_events"
HOSTS = "private.model_hosts"
NAMES = list(STEPS)
ADA, BOB = (f"a0000000-0000-4000-8000-{number:012d}" for number in (1, 2))
TOKEN = "t" * 43

# What a rollback keeps under another name.
OURS = {
    "job_token_hash",
    "job_token_expires_at",
    "upload_attempt",
    "heartbeat_at",
    "result_note",
    "failure_stage",
}
SECRET = {"job_token", "job_token_hash", "job_token_expires_at"}
POD_READS = {
    "id",
    "user_id",
    "status",
    "progress",
    "model_name",
    "model_url",
    "error_message",
    "result_note",
    "failure_stage",
    "started_at",
    "completed_at",
    "updated_at",
    "heartbeat_at",
    "upload_attempt",
}

ODD = "'; drop table x; --\n\t\\ \u2028 é 🔑 %s {}"
OLD_ROWS = (
    {"status": "running", "job_token": TOKEN, "progress": 12.5},
    {"status": "running", "job_token": TOKEN, "metadata": None},
    {"status": "pending", "job_token": None, "created_at": None, "updated_at": None},
    {"status": "queued", "job_token": ""},
    {"status": "paused", "job_token": "žeton 🔑"},
    {
        "status": "completed",
        "job_token": "x" * 9000,
        "model_url": "https://elsewhere.example/m",
        "progress": 7,
    },
    {"status": "cancelled", "job_token": "a token", "completed_at": "-infinity"},
    {"status": "failed", "job_token": "d" * 43, "error_message": "gone"},
    {"status": "failed", "job_token": "b" * 43, "error_message": "Not published: the token may not write"},
    {"status": "failed", "job_token": None, "error_message": "Not published: "},
    {"status": "failed", "job_token": "c" * 43, "error_message": "CUDA out of memory. Not published: it"},
    {
        "status": "running",
        "job_token": ODD,
        "model_name": ODD,
        "base_model": "",
        "dataset_path": ODD * 1000,
        "config": '{"a": [null, 1e300, {"": "\\u00e9"}]}',
        "metadata": "[1, 2]",
        "error_message": "",
        "model_url": "javascript:alert(1)",
        "progress": -0.0,
        "current_step": -(2**31),
        "current_epoch": 1e-300,
        "total_steps": 2**31 - 1,
        "total_epochs": 0,
        "loss": "infinity",
        "eval_loss": "nan",
        "learning_rate": 5e-324,
        "grad_norm": "-infinity",
        "samples_per_second": 1e300,
        "gpu_memory_allocated_gb": 0.1,
        "gpu_memory_reserved_gb": -1,
        "elapsed_seconds": -1,
        "remaining_seconds": None,
        "started_at": "infinity",
        "completed_at": "0044-03-15 12:00:00+00 BC",
        "created_at": "1969-12-31 23:59:59.999999+14",
        "updated_at": "294276-12-31 00:00:00+00",
    },
)
NEW_CONTENTS = """
  job_token = null, job_token_hash = %s, job_token_expires_at = 'infinity', upload_attempt = 7,
  heartbeat_at = '-infinity', result_note = %s, failure_stage = 'lost'
"""
OLD_EVENTS = (
    {
        "event_key": ODD,
        "event": "committed",
        "commit_sha": "0" * 40,
        "bytes": 2**62,
        "detail": '{"a": [null]}',
    },
    {
        "event_key": "row",
        "event": "status_changed",
        "source": "trigger",
        "actor_role": "anon",
        "request_id": "",
    },
)


def job_id(number):
    return f"00000000-0000-4000-8000-{number:012d}"


def add(project, row, table=JOBS):
    places = ", ".join(["%s"] * len(row))
    project.ask(f"insert into {table} ({', '.join(row)}) values ({places})", *row.values())


def add_users(project):
    for user in (ADA, BOB):
        project.ask("insert into auth.users (id) values (%s) on conflict do nothing", user)


def add_old_rows(project, rows=OLD_ROWS):
    add_users(project)
    for number, row in enumerate(rows):
        add(project, {"id": job_id(number), "user_id": ADA, "model_name": "tiny"} | row)


def fill(project):
    """Put contents of every kind into those tables and columns that are there and have none."""
    if project.has(JOBS) and not project.rows():
        add_old_rows(project)
    if project.has(JOBS) and "job_token_hash" in all_columns(project):
        project.ask(f"update {JOBS} set {NEW_CONTENTS} where error_message = 'gone'", b"\x00\xff", ODD)
    if project.has(HOSTS):
        project.ask(f"insert into {HOSTS} values ('https://hub.lab.example:8443') on conflict do nothing")
    if project.has(EVENTS) and not project.rows(EVENTS):
        for row in OLD_EVENTS:
            add(project, {"job_id": job_id(0)} | row, EVENTS)


def climbing(project):
    """Run one migration after the other over filled tables; each is told once it was run."""
    fill(project)
    for step in NAMES:
        project.up(step)
        fill(project)
        yield step


def climb(project, to=NAMES[-1]):
    """Run the migrations up to one of them over rows of every kind."""
    for step in climbing(project):
        if step == to:
            return


def contents(project):
    return {table: project.rows(table) for table in (JOBS, EVENTS, HOSTS) if project.has(table)}


def as_the_platform_knows_it(project):
    return {
        key: {name: value for name, value in row.items() if name.removeprefix("rolled_back_") not in OURS}
        for key, row in project.rows().items()
    }


def without_what_a_rollback_keeps(description):
    return {name: said for name, said in description.items() if "rolled_back_" not in f"{name} {said}"}


def policies(project):
    return {
        name
        for (name,) in project.ask("select polname::text from pg_policy where polrelid = %s::regclass", JOBS)
    }


def columns_for(project, role, right):
    asked = "select attname::text from pg_attribute where attrelid = %s::regclass and attnum > 0"
    asked += " and not attisdropped and has_column_privilege(%s, attrelid, attnum, %s)"
    return {name for (name,) in project.ask(asked, JOBS, role, right)}


def all_columns(project):
    return columns_for(project, "project_owner", "select")


@pytest.fixture(params=BASES)
def project(cluster, request):
    with Project(cluster, request.param, *BASES[request.param]) as made:
        yield made


@pytest.fixture
def shipped(cluster):
    with Project(cluster, "shipped", *BASES["shipped"]) as made:
        yield made


@pytest.fixture(scope="module")
def hardened(cluster):
    """All migrations over the shipped table and its rows; who changes it takes that back."""
    with Project(cluster, "shipped", *BASES["shipped"]) as made:
        climb(made)
        yield made


@contextmanager
def surprise(cluster, name, script):
    """The shipped table with something that only one platform has."""
    with Project(cluster, name, *BASES["shipped"], script) as made:
        yield made


# Up, down, up again


def test_every_migration_taken_back_and_run_again_leaves_the_same_schema_and_the_same_data(project):
    for step in climbing(project):
        schema, data, platforms = project.describe(), contents(project), as_the_platform_knows_it(project)
        project.down(step)
        assert as_the_platform_knows_it(project) == platforms, step
        project.up(step)
        assert project.describe() == schema, step
        assert contents(project) == data, step


def test_a_migration_or_a_rollback_that_runs_a_second_time_changes_nothing(project):
    for step in climbing(project):
        for run in (project.up, project.down, project.up):
            run(step)
            schema, data = project.describe(), contents(project)
            run(step)
            assert project.describe() == schema, step
            assert contents(project) == data, step


def test_all_migrations_taken_back_and_run_again_leave_the_same_schema_and_the_same_data(project):
    climb(project)
    schema, data, platforms = project.describe(), contents(project), as_the_platform_knows_it(project)
    project.down(*reversed(NAMES))
    assert as_the_platform_knows_it(project) == platforms
    project.up(*NAMES)
    assert project.describe() == schema
    assert contents(project) == data


def test_events_that_come_after_a_rollback_get_numbers_of_their_own(shipped):
    climb(shipped)
    shipped.down(*reversed(NAMES))
    shipped.up(*NAMES)
    event = {"job_id": job_id(1), "event_key": "next", "event": "started"}
    add(shipped, event, EVENTS)
    assert list(shipped.rows(EVENTS)) == ["1", "2", "3"]


def test_the_shipped_schema_comes_back_whole(cluster):
    for name in ("shipped", "shipped-without-automatic-grants"):
        with Project(cluster, name, *BASES[name]) as project:
            before = project.describe("public")
            climb(project)
            assert project.describe("public") != before
            project.down(*reversed(NAMES))
            after = project.describe("public")
            assert without_what_a_rollback_keeps(after) == before
            kept = {f"column {JOBS}.rolled_back_{name}" for name in OURS}
            assert {name for name in after if name.startswith("column")} - set(before) == kept


def test_a_rollback_leaves_only_what_holds_something_where_no_api_reaches_it(shipped):
    climb(shipped)
    shipped.down(*reversed(NAMES))
    left = [thing.partition(" ") for thing in shipped.describe("private")]
    assert {name for kind, _, name in left if kind in {"relation", "function"}} == {
        "private.undo",
        "private.undo_id_seq",
        "private.model_hosts",
        "private.rolled_back_model_upload_events",
        "private.model_upload_events_id_seq",
        "private.keep_events()",
    }


CHANGED_MEANWHILE = f"""
drop policy "Allow anon to select jobs with valid token" on {JOBS};
create policy "Anybody looks" on {JOBS} for select to anon using (true);
alter table {JOBS} disable row level security;
revoke all on {JOBS} from anon;
grant select (id, status) on {JOBS} to anon;
alter table {JOBS} replica identity full;
alter publication supabase_realtime add table {JOBS};
"""


def test_what_a_platform_changed_after_a_rollback_comes_back_after_the_next(shipped):
    shipped.up(*NAMES)
    shipped.down(*reversed(NAMES))
    shipped.owner.execute(CHANGED_MEANWHILE.encode())
    before = shipped.describe("public")
    shipped.up(*NAMES)
    assert shipped.in_force() == set(NAMES)
    shipped.down(*reversed(NAMES))
    assert shipped.describe("public") == before


def test_an_empty_project_is_empty_again(cluster):
    for name in ("empty", "empty-without-automatic-grants"):
        with Project(cluster, name, *BASES[name]) as project:
            before = project.describe("public")
            project.up(*NAMES)
            schema = project.describe()
            project.down(*reversed(NAMES))
            assert project.describe("public") == before
            project.up(*NAMES)
            assert project.describe() == schema


def test_the_app_of_today_works_on_the_table_that_came_back(shipped):
    climb(shipped)
    shipped.down(*reversed(NAMES))
    columns = "user_id, model_name, status, job_token"
    insert = f"insert into {JOBS} ({columns}) values ('{ADA}', 'tiny', 'queued', 'short') returning id::text"
    ((job,),) = shipped.ask_as("service_role", insert)
    row = f"from {JOBS} where id = '{job}'"
    assert shipped.ask_as("anon", f"select job_token {row}") == [("short",)]
    changes = (
        "status = 'archived', progress = 150, model_url = 'https://elsewhere.example/m', updated_at = now()"
    )
    assert shipped.ask_as(
        "anon", f"update {JOBS} set {changes} where id = '{job}' returning status, progress, model_url"
    ) == [("archived", 150, "https://elsewhere.example/m")]
    assert shipped.ask_as("authenticated", f"select status {row}", sub=ADA) == [("archived",)]
    assert shipped.ask_as("authenticated", f"select status {row}", sub=BOB) == []


# Whoever runs them, and wherever


SESSIONS = {
    "hosted": "set statement_timeout = '2min'",
    "no search_path": "set search_path = ''",
    "search_path of somebody's own": "set search_path = auth, extensions, private",
}
OWNERS_POLICY = """
create policy "Owners take back" on public.local_training_jobs for delete to authenticated
  using ((select auth.uid()) = user_id);
"""


@pytest.mark.parametrize("setting", SESSIONS.values(), ids=SESSIONS)
def test_the_session_that_runs_them_makes_no_difference(cluster, setting):
    with surprise(cluster, "owners policy", OWNERS_POLICY) as project:
        climb(project)
        schema, data = project.describe(), contents(project)
        project.down(*reversed(NAMES))
        taken_back = project.describe()
        project.owner.execute(setting)
        for step in NAMES:
            project.up(step, step)
        assert project.describe() == schema
        assert contents(project) == data
        for step in reversed(NAMES):
            project.down(step, step)
        assert project.describe() == taken_back


def test_no_superuser_is_needed(shipped):
    climb(shipped)
    asked = "select rolsuper, rolname = (select relowner::regrole::text from pg_class where relname = 'undo')"
    assert shipped.owner.execute(asked + " from pg_roles where rolname = current_user").fetchall() == [
        (False, True)
    ]


GRANTED = {
    "schema public: anon: usage",
    "schema public: authenticated: usage",
    "schema public: public: usage",
    "schema private: anon: usage",
    "schema private: authenticated: usage",
    "function public.agent_migrations(): anon: execute",
    "function public.agent_migrations(): authenticated: execute",
    "function public.note_on_job(uuid,text): anon: execute",
    "function private.hub_path(text): anon: execute",
    "function private.uncounted(text): anon: execute",
    "function private.uncounted(text): authenticated: execute",
    "function private.pod_columns(): anon: execute",
    "function private.pod_columns(): authenticated: execute",
    "function private.request_job_id_claim(): anon: execute",
    "function private.request_job_id_claim(): authenticated: execute",
    "function private.request_job_token_hash(): anon: execute",
    "function private.request_job_token_hash(): authenticated: execute",
    "relation private.model_hosts: anon: select",
}


def test_what_the_public_may_do_does_not_depend_on_the_automatic_grants_of_a_project(project):
    project.up(*NAMES)
    granted = {
        f"{thing}: {right}"
        for thing, said in project.describe().items()
        if not thing.startswith(("column", "default rights"))
        for right in said.get("rights", ())
        if right.startswith(("anon:", "authenticated:", "public:"))
    }
    assert granted == GRANTED
    assert columns_for(project, "anon", "select") == POD_READS
    assert columns_for(project, "authenticated", "select") == all_columns(project) - SECRET
    assert columns_for(project, "authenticated", "update") == {"status", "completed_at", "updated_at"}


# What is in force


@pytest.mark.parametrize("base", ["shipped", "empty"])
def test_the_database_tells_after_every_file_which_migrations_are_in_force(cluster, base):
    nothing_to_take_back = {"job_tokens_of_old_rows", "row_rules_of_old_rows"}
    with Project(cluster, base, *BASES[base]) as project:
        for number, step in enumerate(NAMES, 1):
            project.up(step)
            assert project.in_force() == set(NAMES[:number])
        for number, step in reversed(list(enumerate(NAMES))[1:]):
            project.down(step)
            assert project.in_force() == set(NAMES[:number]) | nothing_to_take_back & {step}
        project.down(NAMES[0])
        with pytest.raises(errors.UndefinedFunction):
            project.in_force()


def test_a_database_from_before_the_newest_file_is_told_of_it_by_that_file_alone(shipped):
    shipped.up(*NAMES)
    shipped.down("last_words")
    shipped.owner.execute("drop function public.agent_migrations()")
    shipped.up("last_words")
    assert shipped.in_force() == set(NAMES)


TAKEN_AWAY = [
    ("training_jobs", f"alter table {JOBS} drop column result_note"),
    ("job_tokens", f"drop trigger a_hash_job_token on {JOBS}"),
    ("job_tokens", f"alter table {JOBS} disable trigger a_hash_job_token"),
    ("job_tokens", f"alter table {JOBS} enable replica trigger a_hash_job_token"),
    ("job_token_index", "drop index public.local_training_jobs_token_hash_idx"),
    ("row_rights", f"drop policy agent_only on {JOBS}"),
    ("row_rights", f"alter table {JOBS} disable row level security"),
    ("row_rights", f"grant select on {JOBS} to anon"),
    ("row_rights", f"grant select (job_token) on {JOBS} to public"),
    ("row_rules", f"drop trigger guard_training_job on {JOBS}"),
    ("row_rules", f"alter table {JOBS} disable trigger guard_training_job"),
    ("row_rules", f"alter table {JOBS} enable replica trigger guard_training_job"),
    ("upload_events", f"drop trigger audit_training_job on {JOBS}"),
    ("upload_events", f"alter table {JOBS} disable trigger audit_training_job"),
    ("upload_events", f"drop table {EVENTS}"),
    ("stale_jobs", "drop function public.mark_stale_jobs(interval)"),
    ("realtime", f"alter table {JOBS} replica identity full"),
    ("realtime", f"alter publication supabase_realtime drop table {JOBS}"),
    ("last_words", "drop function public.note_on_job(uuid, text)"),
    ("last_words", "revoke execute on function public.note_on_job(uuid, text) from anon"),
]


@pytest.mark.parametrize(("step", "statement"), TAKEN_AWAY, ids=[statement for _, statement in TAKEN_AWAY])
def test_what_somebody_took_away_is_no_longer_in_force_until_its_file_runs_again(hardened, step, statement):
    hardened.owner.execute(statement.encode())
    assert hardened.in_force() == set(NAMES) - {step}
    hardened.up(step)
    assert hardened.in_force() == set(NAMES)


@pytest.mark.parametrize(
    ("step", "constraint"),
    [
        ("job_tokens_of_old_rows", "ltj_token_hash_chk"),
        ("row_rules_of_old_rows", "ltj_status_chk"),
        ("row_rules_of_old_rows", "ltj_progress_chk"),
        ("row_rules_of_old_rows", "ltj_stage_chk"),
    ],
)
def test_a_rule_that_was_not_proven_for_old_rows_is_not_in_force_for_them(hardened, step, constraint):
    asked = "select pg_get_constraintdef(oid) from pg_constraint where conname = %s"
    ((rule,),) = hardened.ask(asked, constraint)
    again = f"drop constraint {constraint}, add constraint {constraint} {rule} not valid"
    hardened.owner.execute(f"alter table {JOBS} {again}".encode())
    assert hardened.in_force() == set(NAMES) - {step}
    hardened.up(step)
    assert hardened.in_force() == set(NAMES)


# The index


def invalid_index(project):
    """Whether there is an index of the name that cannot be used."""
    asked = "select 1 from pg_index where not indisvalid"
    asked += " and indexrelid = to_regclass('public.local_training_jobs_token_hash_idx')"
    return bool(project.ask(asked))


def interrupt_the_build(project):
    """Cancel the build of the index while it waits for somebody who writes."""
    with ThreadPoolExecutor(1) as threads, project.connect() as writer:
        writer.execute(f"begin; update {JOBS} set status = status where id = '{job_id(0)}'".encode())
        build = threads.submit(project.up, "job_token_index")
        while not invalid_index(project):
            assert not build.done()
        project.ask("select pg_cancel_backend(%s)", project.owner.info.backend_pid)
        assert isinstance(build.exception(), errors.QueryCanceled)
    assert invalid_index(project)


def test_an_interrupted_build_of_the_index_is_told_and_its_rollback_heals_it(shipped):
    climb(shipped, "job_tokens_of_old_rows")
    interrupt_the_build(shipped)
    shipped.up("job_token_index")
    assert "job_token_index" not in shipped.in_force()
    shipped.down("job_token_index")
    shipped.up("job_token_index")
    assert "job_token_index" in shipped.in_force()


def test_what_an_interrupted_build_left_goes_when_the_migration_before_runs_again(shipped):
    climb(shipped, "job_tokens_of_old_rows")
    interrupt_the_build(shipped)
    shipped.up("job_tokens_of_old_rows")
    assert not invalid_index(shipped)
    shipped.up("job_token_index")
    assert "job_token_index" in shipped.in_force()


def test_an_index_that_was_built_is_not_built_again(shipped):
    climb(shipped, "job_token_index")
    asked = "select 'public.local_training_jobs_token_hash_idx'::regclass::oid"
    built = shipped.ask(asked)
    shipped.up("job_tokens_of_old_rows", "job_token_index")
    assert shipped.ask(asked) == built


# The tokens of old rows


@pytest.fixture
def many(shipped):
    """Rows for three batches, about to be hashed, the second row without a token; a run that hangs ends."""
    add_users(shipped)
    shipped.ask(
        f"insert into {JOBS} (id, user_id, model_name, status, job_token)"
        " select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, %s, 'tiny', 'running',"
        " repeat('t', 40) || n from generate_series(1, 1200) n",
        ADA,
    )
    mended = "job_token = null, status = 'failed', error_message = 'Not published: the Hub is away'"
    shipped.ask(f"update {JOBS} set {mended} where id = %s", job_id(2))
    shipped.up("training_jobs", "job_tokens")
    shipped.owner.execute("set statement_timeout = '20s'")
    return shipped


def hashed(project):
    ((count,),) = project.ask(f"select count(*) from {JOBS} where job_token_hash is not null")
    return count


STOP_AT_THE_LAST = """
create function public.stop() returns trigger language plpgsql as
  $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
create trigger stop before update on public.local_training_jobs for each row
  when (old.id = '00000000-0000-4000-8000-000000001200') execute function public.stop();
"""


def test_hashing_that_was_interrupted_keeps_what_it_did_and_goes_on(many):
    many.root.execute(STOP_AT_THE_LAST)
    with ThreadPoolExecutor(1) as threads, many.connect("postgres") as holder:
        holder.execute("select pg_advisory_lock(1)")
        run = threads.submit(many.up, "job_tokens_of_old_rows")
        while hashed(many) < 999:
            assert not run.done()
        many.ask("select pg_cancel_backend(%s)", many.owner.info.backend_pid)
        assert isinstance(run.exception(), errors.QueryCanceled)
    assert hashed(many) == 999
    assert many.in_force() == {"training_jobs", "job_tokens"}
    many.up("job_tokens_of_old_rows")
    assert hashed(many) == 1199
    assert many.in_force() == {"training_jobs", "job_tokens", "job_tokens_of_old_rows"}
    wrong = f"select id from {JOBS} where job_token_hash <> sha256(job_token::bytea)"
    assert many.ask(wrong) == []


@pytest.mark.parametrize(("held", "others"), [(1, 1198), (2, 1199)], ids=["token", "stage"])
def test_a_row_that_somebody_holds_is_not_waited_for_and_comes_in_a_later_pass(many, held, others):
    with ThreadPoolExecutor(1) as threads, many.connect() as holder:
        holder.execute(f"begin; select from {JOBS} where id = '{job_id(held)}' for update".encode())
        run = threads.submit(many.up, "job_tokens_of_old_rows")
        while hashed(many) < others:
            assert not run.done()
        holder.execute("rollback")
        run.result()
    assert hashed(many) == 1199
    assert many.rows()[job_id(2)]["failure_stage"] == "publish"


def test_old_rows_that_finalize_may_mend_are_marked_and_no_others(shipped):
    climb(shipped, "job_tokens_of_old_rows")
    asked = f"select error_message, failure_stage from {JOBS} where status = 'failed'"
    assert dict(shipped.ask(asked)) == {
        "Not published: the token may not write": "publish",
        "Not published: ": "publish",
        "CUDA out of memory. Not published: it": None,
        "gone": "lost",
    }


def test_hashing_comes_after_the_rule_that_proves_it(shipped):
    shipped.up("training_jobs")
    with pytest.raises(errors.RaiseException, match="the migration job_tokens comes first"):
        shipped.up("job_tokens_of_old_rows")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_pod_that_runs_meanwhile_is_heard_after_every_file(shipped, direction):
    add_old_rows(shipped)
    if direction == "down":
        shipped.up(*NAMES)
    steps = NAMES if direction == "up" else NAMES[::-1]
    beat = f"update {JOBS} set progress = %s where id = '{job_id(0)}' returning progress"
    for number, step in enumerate(steps, 20):
        getattr(shipped, direction)(step)
        assert shipped.ask_as("anon", beat % number, token=TOKEN) == [(number,)]


def test_a_job_that_was_started_again_while_the_rules_were_taken_back_is_heard(shipped):
    lost = {"status": "failed", "error_message": "Not published: the Hub is away", "job_token": TOKEN}
    add_old_rows(shipped, [lost])
    shipped.up(*NAMES)
    taken_back = NAMES[NAMES.index("row_rules") :]
    shipped.down(*reversed(taken_back))
    again = f"update {JOBS} set status = 'running', error_message = null where id = '{job_id(0)}'"
    shipped.ask_as("service_role", f"{again} returning id")
    shipped.up(*taken_back)
    beat = f"update {JOBS} set progress = 20 where id = '{job_id(0)}' returning status"
    assert shipped.ask_as("anon", beat, token=TOKEN) == [("running",)]


# What one platform has and others have not


CORE_TABLE = """
create table public.local_training_jobs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users(id) on delete cascade,
  model_name text not null,
  dataset_path text,
  status text not null check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  job_token text,
  config jsonb,
  error_message text,
  started_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
"""


def test_a_table_with_the_documented_columns_only_gets_the_others_and_keeps_the_usual_ones(cluster):
    with Project(cluster, "core", *BASES["empty"], CORE_TABLE) as project:
        had = all_columns(project)
        add_old_rows(project, [{"status": "running", "job_token": TOKEN}])
        project.up(*NAMES)
        assert project.in_force() == set(NAMES)
        done = f"update {JOBS} set status = 'completed', progress = 100 where id = '{job_id(0)}'"
        assert project.ask_as("anon", f"{done} returning status", token=TOKEN) == [("completed",)]
        schema, data = project.describe(), contents(project)
        project.down(*reversed(NAMES))
        usual = {"progress", "model_url", "metadata"}
        assert all_columns(project) == had | usual | {f"rolled_back_{name}" for name in OURS}
        project.up(*NAMES)
        assert project.describe() == schema
        assert contents(project) == data


def test_row_level_security_that_was_off_is_off_again_after_the_rollback(cluster):
    with surprise(cluster, "rls off", f"alter table {JOBS} disable row level security") as project:
        before = project.describe("public")
        project.up(*NAMES)
        assert project.in_force() == set(NAMES)
        project.down(*reversed(NAMES))
        assert without_what_a_rollback_keeps(project.describe("public")) == before


THEIR_POLICIES = """
create function public.role_of_the_claims() returns text language sql stable return auth.jwt() ->> 'role';
create policy "It's theirs" on public.local_training_jobs for select to authenticated
  using ((select auth.uid()) = user_id);
create policy owners_insert on public.local_training_jobs for insert to authenticated
  with check (auth.uid() = user_id);
create policy by_claim on public.local_training_jobs for select
  using ((auth.jwt() -> 'app_metadata' ->> 'admin')::boolean);
create policy server on public.local_training_jobs to service_role using (true) with check (true);
create policy operators on public.local_training_jobs to project_owner using (true);
create policy "Not archived" on public.local_training_jobs as restrictive using (status <> 'archived');
create policy "Everybody, everything" on public.local_training_jobs using (true);
create policy "Anonymous ""may"" insert" on public.local_training_jobs for insert to anon, authenticated
  with check (model_name is not null);
create policy signed_in on public.local_training_jobs for delete to authenticated using (true);
"""
KEPT_POLICIES = {
    "Users can view their own jobs",
    "It's theirs",
    "owners_insert",
    "by_claim",
    "server",
    "operators",
    "Not archived",
}


def test_policies_that_open_rows_to_everybody_go_and_come_back_and_all_others_stay(cluster):
    with surprise(cluster, "policies", THEIR_POLICIES) as project:
        before = project.describe("public")
        project.up(*NAMES)
        own = {"agent_only", "agent_adds_none", "agent_select", "agent_update", "owner_cancel", "uncounted"}
        assert policies(project) == KEPT_POLICIES | own
        assert columns_for(project, "authenticated", "insert") == all_columns(project)
        project.up("row_rights")
        assert policies(project) == KEPT_POLICIES | own
        project.down(*reversed(NAMES))
        assert without_what_a_rollback_keeps(project.describe("public")) == before


def test_a_policy_that_opens_rows_to_everybody_later_goes_when_its_file_runs_again(shipped):
    shipped.up(*NAMES)
    shipped.owner.execute(f"create policy weak on {JOBS} to authenticated using (true)".encode())
    shipped.up("row_rights")
    assert "weak" not in policies(shipped)
    shipped.down("row_rights")
    assert "weak" in policies(shipped)


THEIR_RIGHTS = """
reset role;
do $$ begin create role "Metrics reader"; exception when duplicate_object then null; end $$;
set role project_owner;
grant select on public.local_training_jobs to public, "Metrics reader";
grant update (config), references (id) on public.local_training_jobs to "Metrics reader", public;
grant insert on public.local_training_jobs to service_role with grant option;
grant select (model_name) on public.local_training_jobs to service_role with grant option;
revoke delete, truncate on public.local_training_jobs from anon, authenticated;
"""


def test_rights_come_back_to_whom_they_were_given(cluster):
    with surprise(cluster, "rights", THEIR_RIGHTS) as project:
        before = project.describe("public")
        project.up(*NAMES)
        assert project.in_force() == set(NAMES)
        project.down(*reversed(NAMES))
        assert without_what_a_rollback_keeps(project.describe("public")) == before


IDENTITIES = {
    "full": "replica identity full",
    "nothing": "replica identity nothing",
    "index": "replica identity using index local_training_jobs_pkey",
}


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("identity", IDENTITIES)
def test_what_was_sent_to_subscribers_before_is_sent_again_after_the_rollback(cluster, identity, published):
    script = f"alter table {JOBS} {IDENTITIES[identity]};"
    script += f"alter publication supabase_realtime add table {JOBS};" if published else ""
    with surprise(cluster, f"replica identity {identity} {published}", script) as project:
        before = project.describe("public")
        project.up(*NAMES)
        assert project.in_force() == set(NAMES)
        described = project.describe()
        assert described["publication supabase_realtime"]["tables"] == [JOBS]
        assert described[f"relation {JOBS}"]["replica identity"] == "d"
        project.down(*reversed(NAMES))
        assert without_what_a_rollback_keeps(project.describe("public")) == before


IDENTITY_LOST = f"""
create unique index lost on {JOBS} (id);
alter table {JOBS} replica identity using index lost;
drop index lost;
"""


def test_a_replica_identity_whose_index_is_gone_is_no_obstacle(cluster):
    with surprise(cluster, "replica identity lost", IDENTITY_LOST) as project:
        for _ in range(2):
            project.up(*NAMES)
            assert project.in_force() == set(NAMES)
            project.down(*reversed(NAMES))


@pytest.mark.parametrize(
    "script",
    [
        "drop publication supabase_realtime",
        "drop publication supabase_realtime; reset role; create publication supabase_realtime for all tables",
    ],
    ids=["none", "all tables"],
)
def test_a_publication_that_cannot_take_one_table_is_left_alone(cluster, script):
    with surprise(cluster, script, script) as project:
        before = {name: said for name, said in project.describe().items() if name.startswith("publication")}
        project.up(*NAMES, "realtime")
        assert project.in_force() == set(NAMES)
        project.down("realtime")
        after = {name: said for name, said in project.describe().items() if name.startswith("publication")}
        assert after == before


PROVIDER_SECRETS = """
create table public.provider_secrets (id int primary key, provider text not null);
insert into public.provider_secrets values (1, 'runpod');
"""


def test_the_table_of_provider_secrets_gets_its_metadata(cluster):
    with surprise(cluster, "provider_secrets", PROVIDER_SECRETS) as project:
        climb(project)
        kept = {"1": {"id": 1, "provider": "runpod", "metadata": {}}}
        assert project.rows("public.provider_secrets") == kept
        project.down(*reversed(NAMES))
        assert project.rows("public.provider_secrets") == kept


MORE_COLUMNS = f"alter table {JOBS} add column perplexity real, add column agent_id text default 'none'"


def test_columns_of_the_app_are_shown_to_its_users_and_to_no_pod(cluster):
    with surprise(cluster, "columns", MORE_COLUMNS) as project:
        project.up(*NAMES)
        assert columns_for(project, "anon", "select") == POD_READS
        assert columns_for(project, "authenticated", "select") == all_columns(project) - SECRET
        assert {"perplexity", "agent_id"} <= columns_for(project, "authenticated", "select")
        written = columns_for(project, "anon", "update")
        assert not written & {"id", "user_id", "completed_at", "perplexity", "agent_id", "config", *SECRET}
        assert {"status", "progress", "model_url", "failure_stage", "current_step"} <= written


def test_a_column_of_the_app_that_has_the_name_of_ours_keeps_it_after_the_rollback(cluster):
    with surprise(cluster, "heartbeat", f"alter table {JOBS} add column heartbeat_at timestamptz") as project:
        before = project.describe("public")
        project.up(*NAMES)
        project.down(*reversed(NAMES))
        assert without_what_a_rollback_keeps(project.describe("public")) == before


UPDATED_AT = """
create function public.touch() returns trigger language plpgsql as
  $$ begin new.updated_at := now(); return new; end $$;
create trigger set_updated_at before update on public.local_training_jobs
  for each row execute function public.touch();
"""


def test_triggers_of_the_app_go_on(cluster):
    with surprise(cluster, "trigger", UPDATED_AT) as project:
        add_old_rows(project)
        before = project.describe("public")
        project.up(*NAMES)
        project.ask(f"update {JOBS} set updated_at = null")
        beat = f"update {JOBS} set progress = 20 where id = '{job_id(0)}' returning updated_at is not null"
        assert project.ask_as("anon", beat, token=TOKEN) == [(True,)]
        project.down(*reversed(NAMES))
        assert without_what_a_rollback_keeps(project.describe("public")) == before


BREAKS_A_RULE = (
    {"status": "archived"},
    {"status": "running", "progress": 150},
    {"status": "running", "progress": "nan"},
)


def test_a_rule_that_old_rows_break_holds_for_new_ones_and_tells_how_to_find_the_old(shipped):
    add_old_rows(shipped, BREAKS_A_RULE)
    shipped.up(*NAMES)
    assert shipped.in_force() == set(NAMES) - {"row_rules_of_old_rows"}
    found = {}
    for warning in shipped.warnings:
        rule, _, query = warning.partition(" does not hold for every row; look at: ")
        found[rule] = {str(row) for (row,) in shipped.owner.execute(query.encode())}
    assert found == {"ltj_status_chk": {job_id(0)}, "ltj_progress_chk": {job_id(1), job_id(2)}}

    for row in BREAKS_A_RULE:
        with pytest.raises(errors.CheckViolation):
            add(shipped, {"user_id": ADA, "model_name": "tiny"} | row)
    shipped.ask(f"update {JOBS} set status = 'failed', progress = 99")
    shipped.up("row_rules_of_old_rows")
    assert shipped.in_force() == set(NAMES)


THEIR_PRIVATE = """
create schema private;
create table private.billing (id int primary key, owed numeric);
create function private.owes() returns boolean language sql return true;
revoke execute on function private.owes() from public;
grant usage on schema private to authenticated;
grant select (id) on private.billing to authenticated;
grant execute on function private.owes() to service_role;
insert into private.billing values (1, 9.5);
"""


def test_a_private_schema_that_the_platform_uses_already_keeps_its_things_and_their_rights(cluster):
    with surprise(cluster, "private", THEIR_PRIVATE) as project:
        theirs = {name: said for name, said in project.describe("private").items() if "private." in name}
        climb(project)
        assert theirs.items() <= project.describe("private").items()
        project.down(*reversed(NAMES))
        assert theirs.items() <= project.describe("private").items()
        assert project.rows("private.billing") == {"1": {"id": 1, "owed": 9.5}}


# What Realtime sends


def sent(project, role, /, **claims):
    """What Realtime sends a subscriber of a change: those published columns that the role may read, of the
    rows that its policies show to the claims.
    """
    published = "select attname::text from pg_publication_tables, unnest(attnames) attname"
    published += " where pubname = 'supabase_realtime' and schemaname || '.' || tablename = %s"
    columns = {name for (name,) in project.ask(published, JOBS)} & columns_for(project, role, "select")
    if not columns:
        return {}
    rows = project.ask_as(
        role, f"select id::text, row_to_json(t) from (select {', '.join(columns)} from {JOBS}) t", **claims
    )
    return dict(rows)


def sent_of_the_row_before(project):
    """The columns that PostgreSQL itself hands out of the row before a change."""
    described = project.describe()
    if described[f"relation {JOBS}"]["replica identity"] == "f":
        return all_columns(project)
    assert described[f"relation {JOBS}"]["replica identity"] == "d"
    return (
        {"id"}
        if described[f"constraint {JOBS}.local_training_jobs_pkey"]["says"] == "PRIMARY KEY (id)"
        else None
    )


LEAKING = f"alter table {JOBS} replica identity full; alter publication supabase_realtime add table {JOBS}"


def test_subscribers_are_sent_what_they_may_read_and_no_more(cluster):
    with surprise(cluster, "leaking", LEAKING) as project:
        add_old_rows(project, [{"status": "running", "job_token": TOKEN}])
        add(
            project,
            {
                "id": job_id(1),
                "user_id": BOB,
                "model_name": "his",
                "status": "running",
                "job_token": "b" * 43,
            },
        )
        assert sent(project, "anon")[job_id(0)]["job_token"] == TOKEN
        assert "job_token" in sent_of_the_row_before(project)

        project.up(*NAMES)
        assert sent(project, "anon") == {}
        assert sent(project, "authenticated") == {}
        by_claim = sent(project, "anon", role="anon", job_id=job_id(0))
        assert {job: set(row) for job, row in by_claim.items()} == {job_id(0): POD_READS}
        owned = sent(project, "authenticated", role="authenticated", sub=ADA)
        assert {job: set(row) for job, row in owned.items()} == {job_id(0): all_columns(project) - SECRET}
        said = str([by_claim, owned])
        assert TOKEN not in said
        assert hashlib.sha256(TOKEN.encode()).hexdigest() not in said
        assert sent_of_the_row_before(project) == {"id"}


# The description itself


CHANGES = [
    f"alter table {JOBS} disable trigger a_hash_job_token",
    f"alter table {JOBS} alter column upload_attempt drop not null",
    f"alter table {JOBS} alter column upload_attempt set default 1",
    f"alter table {JOBS} alter column upload_attempt type bigint",
    f"alter table {JOBS} replica identity full",
    f"alter table {JOBS} force row level security",
    f"alter table {JOBS} owner to postgres",
    f"alter table {JOBS} set (fillfactor = 90)",
    f"alter table {JOBS} drop constraint ltj_stage_chk",
    f"grant select (job_token) on {JOBS} to anon",
    f"revoke delete on {JOBS} from service_role",
    f"alter policy agent_select on {JOBS} using (true)",
    f"alter policy agent_select on {JOBS} to authenticated",
    f"comment on column {JOBS}.progress is 'in percent'",
    "alter function private.guard_training_job() security definer",
    "alter function private.guard_training_job() reset search_path",
    "revoke execute on function public.agent_migrations() from anon",
    "grant execute on function public.mark_stale_jobs(interval) to anon",
    "alter function public.note_on_job(uuid, text) security invoker",
    "grant usage on sequence public.model_upload_events_id_seq to anon with grant option",
    "grant create on schema private to anon",
    f"update pg_index set indisvalid = false where indrelid = '{JOBS}'::regclass and not indisprimary",
    "update pg_constraint set convalidated = false where conname = 'ltj_status_chk'",
    f"alter publication supabase_realtime set table {JOBS} where (progress > 1)",
    "alter publication supabase_realtime set (publish = 'insert')",
    "create view public.more as select 1",
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_description_that_is_compared_tells_of_every_change(hardened, change):
    before = hardened.describe()
    with hardened.root.transaction(force_rollback=True):
        hardened.root.execute(change.encode())
        assert hardened.describe() != before
    assert hardened.describe() == before
