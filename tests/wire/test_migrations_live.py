"""Migrations of a large table while its pods go on: nobody who writes a row is ever refused."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from psycopg import errors

from tests.wire.catalog import BASES, JOBS, STEPS, Project

NAMES = list(STEPS)
INDEX = "public.local_training_jobs_token_hash_idx"
ROWS = 200_000
SPREAD = 7919  # a prime: neighbours in time are far apart in the table
PAUSE_S = 0.01

TABLE_OF_MANY = """
reset role;
set session_replication_role = replica;
insert into auth.users (id) values ('a0000000-0000-4000-8000-000000000001');
insert into public.local_training_jobs (id, user_id, model_name, status, job_token, config)
  select md5(n::text)::uuid, 'a0000000-0000-4000-8000-000000000001', 'tiny', 'running',
    translate(encode(sha256(n::text::bytea), 'base64'), '+/=', '-_'), '{"training": {"method": "sft"}}'
  from generate_series(0, %s) n;
analyze public.local_training_jobs;
"""
PROVIDER_SECRETS = "set role project_owner; create table public.provider_secrets (id int primary key)"


def job_id(number):
    return str(uuid.UUID(hashlib.md5(str(number).encode()).hexdigest()))


def token(number):
    return base64.urlsafe_b64encode(hashlib.sha256(str(number).encode()).digest()).decode().rstrip("=")


class Pods:
    """One pod after the other updates its row, as the API does it for them, while the body of `with` runs.

    None of them waits longer than 300 ms for a lock.
    """

    def __init__(self, project, rows=100, role="anon"):
        self.role = role
        self.beats = 0
        self.slowest_s = 0.0
        self.refused = []
        self._project, self._rows = project, rows
        self._told = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def wait_for(self, beats):
        """Wait until so many more updates were made, or one was refused."""
        with self._told:
            enough = self.beats + beats
            self._told.wait_for(lambda: self.beats >= enough or self.refused)

    def _run(self):
        with self._project.connect("authenticator") as api:
            api.execute(f"set lock_timeout = '300ms'; set role {self.role}".encode())
            while not self._over.wait(PAUSE_S):
                begun = time.monotonic()
                try:
                    self._beat(api)
                except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                    self.refused.append(error)
                with self._told:
                    self.beats += 1
                    self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
                    self._told.notify_all()

    def _beat(self, api):
        number = self.beats * SPREAD % self._rows
        changes = f"progress = {self.beats / 1000}, current_step = {self.beats}"
        with api.transaction():
            sent = json.dumps({"x-job-token": token(number)})
            api.execute("select set_config('request.headers', %s, true)", [sent])
            written = api.execute(f"update {JOBS} set {changes} where id = %s".encode(), [job_id(number)])
            assert written.rowcount == 1, f"row {number} is hidden from its pod"


@contextmanager
def open_transaction(project, statement):
    """Somebody who holds on to what a statement takes, as a report, a backup or a careless script does."""
    with project.connect("postgres") as holder:
        holder.execute(f"begin; {statement}".encode())
        yield
        holder.execute("rollback")


def go_on_while_it_waits(pods, project, run):
    """See that a file waits for somebody's lock, and that the pods do not wait with it."""
    waits = "select 1 from pg_locks where pid = %s and not granted"
    while not project.ask(waits, project.owner.info.backend_pid):
        assert not run.done()
    pods.wait_for(10)
    assert not run.done()


@pytest.fixture
def small(cluster):
    script = TABLE_OF_MANY % 99 + PROVIDER_SECRETS
    with Project(cluster, "small", *BASES["shipped"], script) as project:
        yield project


@pytest.mark.parametrize(
    ("base", "role"),
    [("shipped", "anon"), pytest.param("empty", "service_role", marks=pytest.mark.sweep)],
)
def test_nobody_is_refused_while_a_large_table_is_migrated_and_taken_back(cluster, base, role):
    table = () if base == "shipped" else (STEPS["training_jobs"].sql,)
    large = Project(cluster, f"large {base}", *BASES[base], *table, TABLE_OF_MANY % (ROWS - 1))
    beats = {}
    with large, Pods(large, ROWS, role) as pods:
        runs = {"up": (large.up, NAMES), "again": (large.up, NAMES), "down": (large.down, NAMES[::-1])}
        for name, (run, steps) in runs.items():
            for step in steps:
                before = pods.beats
                run(step)
                beats[name, step] = pods.beats - before
                pods.wait_for(1)
                assert pods.refused == [], (name, step)
        unhashed = f"select count(*) from {JOBS} where rolled_back_job_token_hash is null"
        assert large.ask(unhashed) == [(0,)]
    meanwhile = {during: count for during, count in beats.items() if count}
    print(f"slowest of {pods.beats} updates: {pods.slowest_s * 1000:.0f} ms; while a file ran: {meanwhile}")
    assert {("up", "job_tokens_of_old_rows"), ("up", "job_token_index")} <= set(meanwhile)


@pytest.mark.sweep
def test_hashing_reads_a_row_a_few_times_however_many_there_are(cluster):
    with Project(cluster, "large shipped", *BASES["shipped"], TABLE_OF_MANY % (ROWS - 1)) as large:
        large.up(*NAMES[:3])
        large.owner.execute("select pg_stat_force_next_flush()")
        read = "select sum(idx_tup_read)::int from pg_stat_user_indexes where relid = %s::regclass"
        ((rows,),) = large.ask(read, JOBS)
    assert ROWS < rows < 6 * ROWS


READS = f"select count(*) from {JOBS}"
WRITES = f"insert into {JOBS} (user_id, model_name, status) select user_id, 'm', 'queued' from {JOBS} limit 1"
# What needs the table for itself, though for a moment only.
ALONE = {"training_jobs", "job_tokens", "row_rights", "row_rules", "upload_events", "realtime"}
# Building it waits for those who write, dropping it for those who read as well; nobody waits for either.
INDEXING = {"job_token_index"}


@pytest.mark.parametrize(
    ("direction", "holds", "waiting"),
    [
        ("up", READS, ALONE),
        ("up", WRITES, ALONE | INDEXING),
        ("down", READS, ALONE | INDEXING),
        ("down", WRITES, ALONE | INDEXING),
    ],
    ids=["up-reads", "up-writes", "down-reads", "down-writes"],
)
def test_behind_a_transaction_that_stays_open_files_wait_and_no_pod_does(small, direction, holds, waiting):
    if direction == "down":
        small.up(*NAMES)
    with Pods(small) as pods, ThreadPoolExecutor(1) as threads:
        for step in NAMES if direction == "up" else NAMES[::-1]:
            with open_transaction(small, holds):
                run = threads.submit(getattr(small, direction), step)
                if step in waiting:
                    go_on_while_it_waits(pods, small, run)
                else:
                    run.result()
            run.result()
            assert pods.refused == [], step


def test_a_change_that_waits_for_its_lock_in_one_go_has_pods_refused(small):
    """The control: what the tests above would see if a file did so."""
    with Pods(small) as pods, ThreadPoolExecutor(1) as threads:
        with open_transaction(small, READS):
            run = threads.submit(small.owner.execute, f"alter table {JOBS} add column more int".encode())
            pods.wait_for(1000)
        run.result()
    assert {type(error) for error in pods.refused} == {errors.LockNotAvailable}


def test_what_an_interrupted_build_of_the_index_left_is_removed_in_short_turns_too(small):
    small.up(*NAMES[:3])
    small.up("job_token_index")
    small.ask(f"update pg_index set indisvalid = false where indexrelid = '{INDEX}'::regclass")
    with Pods(small) as pods, ThreadPoolExecutor(1) as threads:
        with open_transaction(small, READS):
            run = threads.submit(small.up, "job_tokens_of_old_rows")
            go_on_while_it_waits(pods, small, run)
        run.result()
        assert pods.refused == []
    assert not small.has(INDEX)


def test_a_table_of_secrets_that_is_being_read_keeps_nobody_waiting(small):
    with Pods(small) as pods, ThreadPoolExecutor(1) as threads, small.connect() as platform:
        platform.execute("set lock_timeout = '300ms'")
        with open_transaction(small, "select from public.provider_secrets"):
            run = threads.submit(small.up, "training_jobs")
            go_on_while_it_waits(pods, small, run)
            platform.execute("insert into public.provider_secrets values (1)")
        run.result()
        assert pods.refused == []
