"""The job table behind the embedded REST service: PostgreSQL decides who may read and write what."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from agent.sandbox.jobs_app import JobsApp
from agent.sandbox.loopback import Fault
from agent.sandbox.rest import Rest

TABLE = "/rest/v1/local_training_jobs"
EVENTS = "/rest/v1/model_upload_events"
REP = {"Prefer": "return=representation"}
SETTING = "create function setting(name text) returns text stable language sql return current_setting(name)"
OBJECT = {"Accept": "application/vnd.pgrst.object+json"}


class Pod:
    """A client with the public key and the token of one job."""

    def __init__(self, app, token, client, **headers):
        self.app = app
        self.headers = {"apikey": app.key, "X-Job-Token": token, **headers}
        self._client = client

    def ask(self, method, path, *, headers=None, **request):
        everything = self.headers | (headers or {})
        return self._client.request(method, self.app.url + path, headers=everything, **request)

    def patch(self, job, changes, *, headers=REP, select="id,status", **filters):
        query = {"id": f"eq.{job.id}", "select": select} | filters
        return self.ask("PATCH", TABLE, params=query, json=changes, headers=headers)

    def get(self, query):
        return self.ask("GET", f"{TABLE}?{query}")


@pytest.fixture(scope="module")
def platform(cluster):
    with JobsApp(cluster) as running:
        running.sql(SETTING)
        running.rest.refresh()
        yield running


@pytest.fixture
def app(platform):
    """One platform for all tests here; each has rows of its own."""
    yield platform
    platform.rest.faults.clear()


@pytest.fixture(scope="module")
def client():
    with httpx.Client(timeout=30) as opened:
        yield opened


@pytest.fixture
def job(app):
    return app.add_job(progress=10)


@pytest.fixture
def pod(app, job, client):
    return Pod(app, job.token, client)


@pytest.fixture
def stranger(app, client):
    return Pod(app, "x" * 43, client)


@contextmanager
def row_lock(app, job):
    """Hold the row as a transaction of somebody else does."""
    with app.connect() as other:
        other.execute("select id from local_training_jobs where id = %s for update", [job.id])
        yield other
        other.rollback()


@contextmanager
def role_with(app, **settings):
    """A role of the API with settings of its own, known to the service."""
    with app.connect() as owner:
        owner.execute("create role hasty nologin; grant anon to hasty; grant hasty to authenticator")
        for name, value in settings.items():
            owner.execute(f"alter role hasty set {name} = '{value}'".encode())
    try:
        app.rest.refresh()
        yield
    finally:
        app.sql("drop role hasty")


# Rows


def test_a_row_opens_with_its_token_only(app, job, pod, stranger):
    app.add_job()
    assert pod.get("select=id,status").json() == [{"id": job.id, "status": "running"}]
    assert stranger.get("select=id,status").json() == []
    assert stranger.ask("GET", f"{TABLE}?select=id", headers={"X-Job-Token": "short"}).json() == []


def test_a_row_that_is_hidden_is_updated_without_effect_and_without_error(app, job, stranger):
    answer = stranger.patch(job, {"status": "failed"})
    assert (answer.status_code, answer.json()) == (200, [])
    answer = stranger.patch(job, {"status": "failed"}, headers={"Prefer": "return=minimal, count=exact"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (204, "*/0")
    answer = stranger.patch(job, {"status": "failed"}, headers=REP | OBJECT)
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST116")
    assert app.row(job.id)["status"] == "running"


def test_a_claim_in_a_signed_token_opens_the_row_too(app, job, stranger):
    bearer = {"Authorization": f"Bearer {app.rest.jwt('anon', job_id=job.id)}"}
    assert stranger.ask("GET", f"{TABLE}?select=id", headers=bearer).json() == [{"id": job.id}]
    bearer = {"Authorization": f"Bearer {app.rest.jwt('anon', job_id=job.id, exp=1)}"}
    answer = stranger.ask("GET", f"{TABLE}?select=id", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "PGRST303")


def test_the_secret_key_opens_everything(app, job, stranger):
    answer = stranger.ask(
        "GET", f"{TABLE}?select=id,job_token&id=eq.{job.id}", headers={"apikey": app.rest.secret_key}
    )
    assert answer.json() == [{"id": job.id, "job_token": job.token}]


# Columns


@pytest.mark.parametrize(
    "query", ["", "select=*", "select=id,job_token", "select=job_token_hash", "job_token=eq.x&select=id"]
)
def test_columns_that_are_not_granted_cannot_be_read(pod, query):
    answer = pod.get(query)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert answer.json()["message"] == "permission denied for table local_training_jobs"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("column", ["user_id", "job_token", "completed_at", "config"])
def test_columns_that_are_not_granted_cannot_be_written(app, job, pod, column):
    before = app.row(job.id)
    answer = pod.patch(job, {column: None, "status": "uploading"})
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert app.row(job.id) == before


def test_a_signed_in_user_is_forbidden_where_the_anonymous_lack_a_token(app, job, stranger):
    user = {"Authorization": f"Bearer {app.rest.jwt('authenticated', sub=app.owner)}"}
    answer = stranger.patch(job, {"progress": 100}, headers=user | REP)
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")
    assert "WWW-Authenticate" not in answer.headers


def test_every_column_comes_back_only_to_those_who_may_read_it(job, pod):
    answer = pod.ask("PATCH", f"{TABLE}?id=eq.{job.id}", json={"status": "uploading"}, headers=REP)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    answer = pod.ask("PATCH", f"{TABLE}?id=eq.{job.id}", json={"status": "uploading"})
    assert answer.status_code == 204


def test_the_filter_of_an_update_is_read_as_well(job, pod):
    answer = pod.patch(job, {"status": "uploading"}, metadata="not.is.null")
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")


# Policies on what is written


@pytest.mark.parametrize(("role", "status"), [("anon", 401), ("authenticated", 403)])
def test_a_row_must_not_leave_its_policy(legacy_app, client, role, status):
    job = legacy_app.add_job()
    bearer = f"Bearer {legacy_app.rest.jwt(role, sub=legacy_app.owner)}"
    pod = Pod(legacy_app, job.token, client, Authorization=bearer)
    answer = pod.patch(job, {"job_token": None})
    assert (answer.status_code, answer.json()["code"]) == (status, "42501")
    message = 'new row violates row-level security policy for table "local_training_jobs"'
    assert answer.json()["message"] == message


def test_an_event_of_somebody_elses_job_cannot_be_written(app, pod):
    other = app.add_job()
    event = {"job_id": other.id, "event_key": "k", "event": "started"}
    answer = pod.ask("POST", EVENTS, json=event)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert "row-level security policy" in answer.json()["message"]


def test_the_same_event_is_written_once(app, job, pod):
    event = {"job_id": job.id, "event_key": "k", "event": "started", "attempt": 1}
    wish = {"Prefer": "resolution=ignore-duplicates, return=minimal, count=exact"}
    spans = []
    for _ in range(2):
        answer = pod.ask("POST", f"{EVENTS}?on_conflict=job_id,event_key", json=event, headers=wish)
        assert answer.status_code == 201, answer.text
        spans.append(answer.headers["Content-Range"])
    assert spans == ["*/1", "*/0"]
    columns = "event_key, actor_role, attempt"
    rows = app.sql(f"select {columns} from model_upload_events where job_id = %s", job.id)
    assert rows == [{"event_key": "k", "actor_role": "anon", "attempt": 1}]


# Triggers and checks


def test_a_transition_that_is_not_allowed_conflicts(app, job, pod):
    app.change(job.id, status="cancelled")
    answer = pod.patch(job, {"status": "completed", "progress": 100})
    assert (answer.status_code, answer.reason_phrase) == (409, "job is in a terminal state")
    said = answer.json()
    assert (said["code"], said["hint"]) == ("PT409", "terminal states are immutable")
    assert f'"job_id" : "{job.id}"' in said["details"]
    assert answer.headers["Proxy-Status"] == "PostgREST; error=PT409"
    assert app.row(job.id)["status"] == "cancelled"


def test_the_same_final_write_again_is_a_success(job, pod):
    for _ in range(2):
        answer = pod.patch(job, {"status": "completed", "progress": 100}, select="status,progress")
        assert (answer.status_code, answer.json()) == (200, [{"status": "completed", "progress": 100}])


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"status": "completed", "progress": 99}, "23514", "completed requires progress = 100"),
        ({"status": "done"}, "PT409", "illegal transition running -> done"),
        ({"model_url": "https://elsewhere.example/m"}, "23514", "model_url is not on an allowed Hub"),
        ({"progress": "much"}, "22P02", 'invalid input syntax for type double precision: "much"'),
        (
            {"error": "x"},
            "PGRST204",
            "Could not find the 'error' column of 'local_training_jobs' in the schema cache",
        ),
    ],
)
def test_a_refused_write_changes_nothing(app, job, pod, changes, code, message):
    before = app.row(job.id)
    answer = pod.patch(job, changes)
    assert answer.status_code == (409 if code == "PT409" else 400)
    assert (answer.json()["code"], answer.json()["message"]) == (code, message)
    assert app.row(job.id) == before


def test_triggers_write_what_the_client_may_not(app, job, pod):
    pod.patch(job, {"status": "completed", "progress": 100})
    assert app.row(job.id)["completed_at"] is not None
    columns = "from_status, to_status, actor_role, source"
    rows = app.sql(f"select {columns} from model_upload_events where job_id = %s", job.id)
    assert rows == [
        {"from_status": "running", "to_status": "completed", "actor_role": "anon", "source": "trigger"}
    ]


@pytest.mark.parametrize("wish", ["tx=rollback", "tx=commit"])
def test_a_client_does_not_choose_how_a_transaction_ends(app, job, pod, wish):
    answer = pod.patch(job, {"status": "uploading"}, headers={"Prefer": f"return=minimal, {wish}"})
    assert answer.headers["Preference-Applied"] == "return=minimal"
    assert app.row(job.id)["status"] == "uploading"


# Races, waits and lost answers


def test_of_two_who_compare_and_set_one_wins(app, job, pod):
    start = threading.Barrier(8)

    def claim(number):
        start.wait()
        with httpx.Client(timeout=30) as own:
            changes = {"status": "uploading", "upload_attempt": number}
            return (
                Pod(app, job.token, own)
                .patch(job, changes, select="upload_attempt", status="eq.running")
                .json()
            )

    with ThreadPoolExecutor(8) as threads:
        won = [rows for rows in threads.map(claim, range(8)) if rows]
    assert len(won) == 1
    assert app.row(job.id)["upload_attempt"] == won[0][0]["upload_attempt"]


def test_a_write_waits_for_the_row_and_sees_what_became_of_it(app, job, pod):
    with app.connect() as other, ThreadPoolExecutor(1) as threads:
        other.execute("update local_training_jobs set status = 'cancelled' where id = %s", [job.id])
        write = threads.submit(pod.patch, job, {"status": "uploading"}, status="in.(running)")
        while not app.sql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"):
            assert not write.done()
        other.commit()
        assert write.result().json() == []


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("statement_timeout", "57014", "canceling statement due to statement timeout"),
        ("lock_timeout", "55P03", "canceling statement due to lock timeout"),
    ],
)
def test_the_timeouts_of_a_role_end_a_statement(app, job, pod, setting, code, message):
    """test_settings.py:417-434: SET ROLE alone would not apply them."""
    with role_with(app, **{setting: "60ms"}), row_lock(app, job):
        bearer = {"Authorization": f"Bearer {app.rest.jwt('hasty', job_id=job.id)}"}
        answer = pod.patch(job, {"status": "uploading"}, headers=bearer | REP)
    assert (answer.status_code, answer.headers["Proxy-Status"]) == (500, f"PostgREST; error={code}")
    assert answer.json() == {"code": code, "details": None, "hint": None, "message": message}


def test_settings_of_a_role_that_only_a_superuser_may_change_are_left_out(app, job, pod):
    with role_with(app, log_statement="none", default_transaction_isolation="serializable"):
        bearer = {"Authorization": f"Bearer {app.rest.jwt('hasty', job_id=job.id)}"}
        asked = "/rest/v1/rpc/setting?name=transaction_isolation"
        assert pod.ask("GET", asked, headers=bearer).json() == "serializable"
        assert pod.ask("GET", asked).json() == "read committed"


@pytest.mark.parametrize(
    ("role", "timeout"), [("anon", "3s"), ("authenticated", "8s"), ("service_role", "8s")]
)
def test_the_timeouts_are_those_of_a_hosted_project(app, pod, role, timeout):
    bearer = {"Authorization": f"Bearer {app.rest.jwt(role)}"}
    answer = pod.ask("GET", "/rest/v1/rpc/setting?name=statement_timeout", headers=bearer)
    assert answer.json() == timeout


def test_a_lost_answer_leaves_a_committed_row(app, job, pod):
    fault = app.rest.faults.add(Fault("lost", match=f"PATCH {TABLE}"))
    with pytest.raises(httpx.TransportError):
        pod.patch(job, {"status": "uploading"})
    assert fault.fired == 1
    assert app.row(job.id)["status"] == "uploading"


@pytest.mark.parametrize(("kind", "status"), [("truncated", "uploading"), ("reset", "running")])
def test_a_broken_answer_tells_nothing_of_the_row(app, job, pod, kind, status):
    fault = app.rest.faults.add(Fault(kind, match="PATCH"))
    with pytest.raises(httpx.TransportError):
        pod.patch(job, {"status": "uploading"})
    assert fault.fired == 1
    assert app.row(job.id)["status"] == status


def test_a_service_that_closes_ends_what_waits_and_frees_the_database(cluster, job, app, client):
    waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
    with row_lock(app, job), ThreadPoolExecutor(6) as threads:
        with Rest(cluster.dsn(app.database, "authenticator")) as rest:
            headers = {"apikey": rest.publishable_key, "x-job-token": job.token}
            url = f"{rest.endpoint}{TABLE}?id=eq.{job.id}"
            changes = {"status": "uploading"}
            writes = [threads.submit(client.patch, url, json=changes, headers=headers) for _ in range(6)]
            while len(app.sql(waiting)) < len(writes):
                assert not any(write.done() for write in writes)
        assert not app.sql(waiting)
        assert all(isinstance(write.exception(), httpx.TransportError) for write in writes)
    assert app.row(job.id)["status"] == "running"
