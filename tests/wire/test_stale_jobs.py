"""A job whose pod fell silent is marked as lost, no other one is, and a pod that comes back completes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from agent.database_config import JobDatabase
from agent.jobs.supabase import SupabaseStore
from agent.retry import Patience
from agent.sandbox.jobs_app import JobsApp
from tests.conftest import Clock

CALL = "/rest/v1/rpc/mark_stale_jobs"
MODEL = "https://huggingface.co/ada/m"
LONG_AGO = "2026-01-02T03:04:05.678+00:00"
LAST_HEARD = "The pod was last heard of at 2026-01-02 03:04:05 UTC. If it comes back, it completes this job."
MARK = "select mark_stale_jobs('10 minutes') as id"
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def platform(cluster):
    with JobsApp(cluster) as running:
        yield running


@pytest.fixture
def app(platform):
    """One platform for all tests here, without a job of the test before."""
    yield platform
    platform.sql("delete from local_training_jobs")


@pytest.fixture(scope="module")
def client():
    with httpx.Client(timeout=30) as opened:
        yield opened


@pytest.fixture
def store_of(app):
    """Open the pod's own client of a job."""
    opened, clock = [], Clock()

    def store(job):
        patience = Patience(60, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
        database = JobDatabase(app.url, app.key, job.token, "local_training_jobs")
        opened.append(SupabaseStore(database, job.id, patience))
        return opened[-1]

    yield store
    for one in opened:
        one.close()


def silent(app, *, heard="11 minutes", moved="11 minutes", **columns):
    """A job whose pod spoke that long ago, and whose row moved that long ago, by the database's clock."""
    job = app.add_job(**columns)
    times = "heartbeat_at = now() - %s::interval, updated_at = now() - %s::interval"
    update = f"update local_training_jobs set {times} where id = %s"
    app.sql(update, heard, moved, job.id, past_triggers=True)
    return job


def mark(app, client, *, key=None, **arguments):
    headers = {"apikey": key or app.rest.secret_key}
    return client.post(app.url + CALL, json=arguments, headers=headers)


def marked(app, client, **arguments):
    answer = mark(app, client, **arguments)
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextmanager
def speaking(app, job):
    """The pod's heartbeat, written and not yet committed."""
    with app.connect() as session:
        now = "heartbeat_at = now(), updated_at = now()"
        session.execute(f"update local_training_jobs set {now} where id = %s".encode(), [job.id])
        yield session
        session.commit()


@pytest.mark.parametrize("status", ["running", "uploading"])
def test_a_job_whose_pod_fell_silent_is_lost_and_says_since_when(status, app, client):
    job = app.add_job(status=status, progress=97.0, error_message="a warning", model_url=MODEL)
    app.change(job.id, heartbeat_at=LONG_AGO, updated_at="2026-01-02T04:05:06+00:00")
    before = app.row(job.id)
    assert marked(app, client) == [job.id]
    row = app.row(job.id)
    now = row["updated_at"]
    assert now > before["updated_at"]
    lost = {"status": "failed", "failure_stage": "lost", "error_message": LAST_HEARD}
    assert row == before | lost | {"completed_at": now, "updated_at": now}


@pytest.mark.parametrize("timezone", ["Asia/Kolkata", "America/Los_Angeles"])
def test_the_time_it_says_is_utc_wherever_the_caller_sits(timezone, app):
    job = app.add_job()
    app.change(job.id, heartbeat_at=LONG_AGO, updated_at=LONG_AGO)
    with app.connect() as session:
        session.execute(f"set local timezone to '{timezone}'".encode())
        session.execute(MARK)
    assert app.row(job.id)["error_message"] == LAST_HEARD


@pytest.mark.parametrize(
    ("status", "heard", "moved", "is_marked"),
    [
        ("running", "11 minutes", "11 minutes", True),
        ("running", "11 minutes", "3 days", True),
        ("running", "3 days", "11 minutes", True),
        ("running", "11 minutes", None, True),
        ("uploading", "11 minutes", "11 minutes", True),
        ("running", "9 minutes", "9 minutes", False),
        ("running", "11 minutes", "9 minutes", False),
        ("running", "9 minutes", "11 minutes", False),
        ("running", None, "11 minutes", False),
        ("running", None, None, False),
        ("pending", "11 minutes", "11 minutes", False),
        ("queued", "11 minutes", "11 minutes", False),
        ("paused", "11 minutes", "11 minutes", False),
        ("completed", "11 minutes", "11 minutes", False),
        ("failed", "11 minutes", "11 minutes", False),
        ("cancelled", "11 minutes", "11 minutes", False),
    ],
)
def test_a_job_is_lost_if_it_should_run_and_was_heard_of_and_nothing_moves_it(
    status, heard, moved, is_marked, app, client
):
    job = silent(app, status=status, heard=heard, moved=moved)
    before = app.row(job.id)
    assert marked(app, client) == ([job.id] if is_marked else [])
    assert (app.row(job.id) == before) is not is_marked


def test_a_job_that_is_started_again_is_not_lost_for_the_silence_of_its_old_pod(app, client):
    job = silent(app, status="failed")
    app.sql("update local_training_jobs set status = 'running' where id = %s", job.id)
    assert app.row(job.id)["heartbeat_at"] is None
    app.change(job.id, updated_at=LONG_AGO)
    assert app.sql(MARK) == []


def test_every_lost_job_is_named_once(app, client):
    lost = {silent(app).id for _ in range(3)}
    kept = silent(app, heard="1 minute")
    said = marked(app, client)
    assert (set(said), len(said)) == (lost, 3)
    rows = [app.row(job_id) for job_id in sorted(lost)]
    assert marked(app, client) == []
    assert [app.row(job_id) for job_id in sorted(lost)] == rows
    assert app.row(kept.id)["status"] == "running"


@pytest.mark.parametrize(("silence", "is_marked"), [("10 minutes", False), ("10 minutes 0.000001 s", True)])
def test_the_interval_is_what_a_pod_may_be_silent(silence, is_marked, app):
    job = app.add_job()
    times = f"heartbeat_at = now() - interval '{silence}', updated_at = null"
    with app.connect() as session:  # one transaction: `now` is the same for both statements
        session.execute("set local session_replication_role = replica")
        session.execute(f"update local_training_jobs set {times}".encode())
        session.execute("set local session_replication_role = origin")
        rows = session.execute(MARK).fetchall()
    assert [str(row["id"]) for row in rows] == ([job.id] if is_marked else [])


def test_another_interval_is_asked_for_by_name(app, client):
    job = silent(app, heard="3 minutes", moved="3 minutes")
    assert marked(app, client) == []
    assert marked(app, client, silent_for="4 minutes") == []
    assert marked(app, client, silent_for="2 minutes") == [job.id]


@pytest.mark.parametrize("interval", [None, "119.999999 seconds", "0", "-1 hour", "1 day -23:59:00"])
def test_an_interval_that_a_slow_network_could_fill_is_refused(interval, app, client):
    job = silent(app)
    before = app.row(job.id)
    answer = mark(app, client, silent_for=interval)
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "code": "22023",
            "details": None,
            "hint": "A pod that works speaks every 30 seconds, a slow network not counted.",
            "message": "mark_stale_jobs needs two minutes at least",
        },
    )
    assert app.row(job.id) == before


def test_a_row_that_is_being_written_is_not_waited_for(app):
    job, other = silent(app), silent(app)
    with speaking(app, job), app.connect() as session:
        session.execute("set local lock_timeout = '5s'")
        assert [str(row["id"]) for row in session.execute(MARK)] == [other.id]
    with app.connect() as session:
        assert session.execute(MARK).fetchall() == []
    assert app.row(job.id)["status"] == "running"


def test_a_row_that_was_held_and_not_written_is_lost_the_next_time(app, client):
    job = silent(app)
    with app.connect() as holder:
        holder.execute("select from local_training_jobs for update")
        assert marked(app, client) == []
    assert marked(app, client) == [job.id]


def test_a_heartbeat_that_waits_for_the_row_arrives_and_the_job_is_not_lost(app, client, store_of):
    job = silent(app)
    store = store_of(job)
    assert store.read().status == "running"
    with ThreadPoolExecutor(1) as threads, app.connect() as holder:
        holder.execute("select from local_training_jobs for update")
        beat = threads.submit(store.beat)
        while not app.sql(WAITING):
            assert not beat.done()
        assert marked(app, client) == []
        holder.rollback()
        assert beat.result().status == "running"
    assert marked(app, client) == []


def test_a_heartbeat_that_comes_a_moment_too_late_brings_the_job_back(app, store_of):
    job = silent(app)
    store = store_of(job)
    assert store.read().status == "running"
    with ThreadPoolExecutor(1) as threads, app.connect() as marker:
        assert [str(row["id"]) for row in marker.execute(MARK)] == [job.id]
        beat = threads.submit(store.beat)
        while not app.sql(WAITING):
            assert not beat.done()
        marker.commit()
        assert beat.result().status == "running"
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"], row["error_message"]) == ("running", None, None)
    trail = app.sql("select to_status from model_upload_events where job_id = %s order by id", job.id)
    assert [event["to_status"] for event in trail] == ["failed", "running"]


@pytest.fixture
def lost(app, client):
    job = silent(app, progress=97.0)
    assert marked(app, client) == [job.id]
    return job


def test_a_pod_that_comes_back_goes_on_as_if_nothing_had_been(lost, app, client, store_of):
    row = store_of(lost).read()
    assert (row.status, row.failure_stage, row.may_move) == ("failed", "lost", True)
    row = store_of(lost).start()
    assert (row.status, row.error_message, row.failure_stage) == ("running", None, None)
    seen = app.row(lost.id)
    assert (seen["completed_at"], seen["progress"]) == (None, 97)
    assert seen["heartbeat_at"] == seen["updated_at"]
    assert marked(app, client) == []


def test_a_pod_that_comes_back_with_a_published_model_completes_the_job(lost, app, store_of):
    row = store_of(lost).complete(model_url=MODEL, note=None)
    assert (row.status, row.progress, row.model_url, row.error_message) == ("completed", 100, MODEL, None)
    assert app.row(lost.id)["failure_stage"] is None


def test_a_pod_that_comes_back_and_cannot_publish_says_so_and_mends_it_later(lost, store_of):
    row = store_of(lost).fail(message="the Hub said no", stage="publish")
    assert (row.status, row.failure_stage, row.error_message) == ("failed", "publish", "the Hub said no")
    assert store_of(lost).start().status == "running"
    assert store_of(lost).complete(model_url=MODEL, note=None).status == "completed"


def test_a_pod_that_comes_back_with_a_failed_training_says_so_for_good(lost, store_of):
    row = store_of(lost).fail(message="CUDA out of memory", stage="training")
    assert (row.status, row.failure_stage, row.error_message) == ("failed", "training", "CUDA out of memory")
    assert store_of(lost).start().status == "failed"


@pytest.mark.parametrize(("role", "status"), [("anon", 401), ("authenticated", 403)])
def test_neither_a_pod_nor_a_user_marks_jobs(role, status, app, client):
    job = silent(app)
    before = app.row(job.id)
    headers = {"apikey": app.key, "x-job-token": job.token}
    headers["Authorization"] = f"Bearer {app.rest.jwt(role, sub=app.owner)}"
    answer = client.post(app.url + CALL, json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, "42501")
    assert answer.json()["message"] == "permission denied for function mark_stale_jobs"
    assert app.row(job.id) == before


def test_the_role_that_pg_cron_runs_as_marks_jobs_and_the_trail_says_who_did(app, client, cluster):
    jobs = [silent(app)]
    with psycopg.connect(cluster.dsn(app.database, "project_owner")) as scheduled:
        assert [str(row[0]) for row in scheduled.execute(MARK)] == [jobs[0].id]
    jobs.append(silent(app))
    assert marked(app, client) == [jobs[1].id]
    trail = "select to_status, actor_role from model_upload_events where job_id = %s"
    assert [app.sql(trail, job.id) for job in jobs] == [
        [{"to_status": "failed", "actor_role": "project_owner"}],
        [{"to_status": "failed", "actor_role": "service_role"}],
    ]
