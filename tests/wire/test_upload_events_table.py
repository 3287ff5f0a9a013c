"""The audit trail of the job database: who adds, who reads, what the row itself tells, and that it stays."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import psycopg
import pytest

from agent import migrations
from agent.database_config import JobDatabase
from agent.jobs.supabase import SupabaseStore
from agent.retry import Patience
from agent.sandbox.jobs_app import AS_SHIPPED, JobsApp
from agent.sandbox.postgres import sql

JOBS, EVENTS = "/rest/v1/local_training_jobs", "/rest/v1/model_upload_events"
MODEL, OTHER_MODEL = "https://huggingface.co/ada/m", "https://huggingface.co/ada/other"
BY_KEY = {"on_conflict": "job_id,event_key"}
ONCE = {"params": BY_KEY, "headers": {"Prefer": "resolution=ignore-duplicates, return=minimal"}}
# What a project made since the end of October 2026 starts with.
NO_GRANTS = """
    alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
    alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;
    alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
"""
BEFORE_MIGRATIONS = {
    "automatic grants": [sql(name) for name in AS_SHIPPED],
    "no automatic grants": [sql("roles"), NO_GRANTS, sql("jobs_table"), sql("weak_policies")],
    "no automatic grants and no table": [sql("roles"), NO_GRANTS],
}


class Project(JobsApp):
    """A platform whose database was in this state when the migrations came."""

    def __init__(self, cluster, before):
        self._cluster = cluster
        steps = [step.sql for step in migrations.load()]
        self._template = cluster.template(before, *BEFORE_MIGRATIONS[before], *steps)


@dataclass
class Client:
    """Somebody who asks over HTTP."""

    app: JobsApp
    http: httpx.Client
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method, path, **request):
        headers = {"apikey": self.app.key} | self.headers | request.pop("headers", {})
        return self.http.request(method, self.app.url + path, headers=headers, **request)

    def add(self, *events, **request):
        return self.ask("POST", EVENTS, json=list(events), **request)

    def change(self, job, **changes):
        answer = self.ask("PATCH", f"{JOBS}?id=eq.{job.id}", json=changes)
        assert answer.status_code == 204, answer.text

    def sees(self, job, columns="event_key"):
        query = {"job_id": f"eq.{job.id}", "select": columns, "order": "created_at"}
        answer = self.ask("GET", EVENTS, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module", params=list(BEFORE_MIGRATIONS))
def app(cluster, request):
    """One platform of each kind for all tests here; each test has rows of its own."""
    with Project(cluster, request.param) as running:
        yield running


@pytest.fixture(scope="module")
def http():
    with httpx.Client(timeout=30) as opened:
        yield opened


@pytest.fixture
def job(app):
    return app.add_job(progress=40.0)


@pytest.fixture
def pod(app, http, job):
    return Client(app, http, {"x-job-token": job.token})


@pytest.fixture
def server(app, http):
    return Client(app, http, {"apikey": app.rest.secret_key})


@pytest.fixture
def user(app, http):
    def signed_in(user_id):
        return Client(app, http, {"Authorization": f"Bearer {app.rest.jwt('authenticated', sub=user_id)}"})

    return signed_in


@pytest.fixture
def owner(app, user):
    return user(app.owner)


def started(job, key="k", **columns):
    return {"job_id": job.id, "event_key": key, "event": "started"} | columns


def trail(app, job, columns="event_key"):
    return app.sql(f"select {columns} from model_upload_events where job_id = %s order by id", job.id)


def changes(app, job):
    columns = "from_status, to_status, model_url, actor_role"
    return [tuple(event.values()) for event in trail(app, job, columns)]


def test_all_migrations_are_in_force_whatever_the_project_grants_by_itself(app, pod):
    answer = pod.ask("POST", "/rest/v1/rpc/agent_migrations", json={})
    versions = [step.version for step in migrations.load()]
    assert answer.json() == [{"version": version, "applied": True} for version in versions]


def test_a_job_lives_its_whole_life_whatever_the_project_grants_by_itself(app, http, server, owner):
    job = app.add_job()
    app.sql("delete from local_training_jobs where id = %s", job.id)
    row = {"id": job.id, "user_id": app.owner, "model_name": "m", "status": "pending", "job_token": job.token}
    assert server.ask("POST", JOBS, json=row).status_code == 201
    pod = Client(app, http, {"x-job-token": job.token})
    assert pod.add(started(job)).status_code == 201
    database = JobDatabase(app.url, app.key, job.token, "local_training_jobs")
    with closing(SupabaseStore(database, job.id, Patience(60))) as store:
        assert store.start().status == "running"
        assert store.complete(model_url=MODEL, note=None).status == "completed"
    told = ["started", "status_changed", "status_changed"]
    for client in (pod, owner, server):
        assert [event["event"] for event in client.sees(job, "event")] == told
    shown = owner.ask("GET", f"{JOBS}?id=eq.{job.id}&select=status,model_url").json()
    assert shown == [{"status": "completed", "model_url": MODEL}]
    assert server.ask("POST", "/rest/v1/rpc/mark_stale_jobs", json={}).json() == []


def test_the_same_key_again_is_the_same_event_and_keeps_what_it_said_first(app, job, pod):
    for attempt in (1, 2):
        answer = pod.add(started(job, attempt=attempt), **ONCE)
        assert answer.status_code == 201, answer.text
    assert trail(app, job, "event_key, attempt") == [{"event_key": "k", "attempt": 1}]


def test_of_many_events_only_the_new_ones_are_added(app, job, pod):
    assert pod.add(started(job, "a")).status_code == 201
    answer = pod.add(started(job, "a"), started(job, "b"), started(job, "b"), **ONCE)
    assert answer.status_code == 201, answer.text
    assert [event["event_key"] for event in trail(app, job)] == ["a", "b"]


def test_a_key_that_is_taken_is_an_error_for_who_did_not_ask_for_less(app, job, pod):
    assert pod.add(started(job)).status_code == 201
    answer = pod.add(started(job, "another"), started(job))
    assert (answer.status_code, answer.json()["code"]) == (409, "23505")
    assert [event["event_key"] for event in trail(app, job)] == ["k"]


def test_the_same_key_of_another_job_is_another_event(app, http, job, pod):
    other = app.add_job()
    assert pod.add(started(job)).status_code == 201
    assert Client(app, http, {"x-job-token": other.token}).add(started(other)).status_code == 201
    assert trail(app, job) == trail(app, other) == [{"event_key": "k"}]


def test_an_event_cannot_be_overwritten_by_adding_it_again(app, job, pod, server):
    assert pod.add(started(job, attempt=1)).status_code == 201
    wish = {"Prefer": "resolution=merge-duplicates"}
    for client, status in ((pod, 401), (server, 403)):
        answer = client.add(started(job, attempt=2), params=BY_KEY, headers=wish)
        assert (answer.status_code, answer.json()["code"]) == (status, "42501")
    assert trail(app, job, "attempt") == [{"attempt": 1}]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(("who", "status"), [("pod", 401), ("owner", 403), ("server", 403)])
def test_nobody_changes_or_removes_an_event_over_http(who, status, method, app, job, pod, request):
    assert pod.add(started(job, attempt=1)).status_code == 201
    client = request.getfixturevalue(who)
    answer = client.ask(method, f"{EVENTS}?job_id=eq.{job.id}", json={"attempt": 2})
    assert (answer.status_code, answer.json()["code"]) == (status, "42501")
    assert trail(app, job, "attempt") == [{"attempt": 1}]


@pytest.mark.parametrize(
    "statement",
    [
        "update model_upload_events set attempt = 2",
        "update model_upload_events set event_key = event_key",
        "delete from model_upload_events",
        "truncate model_upload_events",
        "truncate local_training_jobs cascade",
    ],
)
@pytest.mark.parametrize(
    ("role", "code"), [("project_owner", "PT405"), ("postgres", "PT405"), ("service_role", "42501")]
)
def test_nobody_changes_or_removes_an_event_with_sql(role, code, statement, app, job, pod):
    assert pod.add(started(job, attempt=1)).status_code == 201
    with app.connect() as session:
        session.execute(f"set local role {role}".encode())
        with pytest.raises(psycopg.Error) as refused:
            session.execute(statement.encode())
        session.rollback()
    assert refused.value.sqlstate == code
    assert trail(app, job, "attempt") == [{"attempt": 1}]


def test_a_job_that_is_deleted_takes_its_trail_along_and_no_other(app, http, job, pod, server):
    other = app.add_job()
    assert pod.add(started(job)).status_code == 201
    assert Client(app, http, {"x-job-token": other.token}).add(started(other)).status_code == 201
    assert server.ask("DELETE", f"{JOBS}?id=eq.{job.id}").status_code == 204
    assert (trail(app, job), trail(app, other)) == ([], [{"event_key": "k"}])


def test_a_user_who_is_deleted_takes_jobs_and_trails_along(app, http):
    user_id = app.sql("insert into auth.users (email) values ('bob@lab') returning id")[0]["id"]
    job = app.add_job(user_id=user_id)
    assert Client(app, http, {"x-job-token": job.token}).add(started(job)).status_code == 201
    app.sql("delete from auth.users where id = %s", user_id)
    assert trail(app, job) == []
    assert app.sql("select from local_training_jobs where id = %s", job.id) == []


EVENTS_OF_A_POD = [
    "started",
    "gate_refused",
    "repo_created",
    "content_uploaded",
    "committed",
    "verified",
    "recorded",
    "record_rejected",
    "failed",
    "interrupted",
    "rolled_back",
    "released",
]


def test_a_pod_tells_these_events(app, job, pod):
    told = [started(job, event, event=event) for event in EVENTS_OF_A_POD]
    assert pod.add(*told).status_code == 201
    expected = [{"event": event, "source": "agent", "actor_role": "anon"} for event in EVENTS_OF_A_POD]
    assert trail(app, job, "event, source, actor_role") == expected


FULL = {
    "repo_id": "ada/" + "m" * 196,
    "commit_sha": "0123456789abcdef" * 2 + "01234567",
    "model_url": "https://huggingface.co/" + "m" * 489,
    "bytes": 2**62,
    "files": 0,
    "attempt": 1000,
    "detail": {"words": "x" * 16_000},
    "happened_at": "2026-05-06T07:08:09.123456+02:00",
}


def test_an_event_holds_what_the_pod_tells_and_what_the_server_knows(app, job, pod):
    key = "k" * 200
    answer = pod.add(started(job, key, **FULL), headers={"X-Request-Id": "req-7"})
    assert answer.status_code == 201, answer.text
    (event,) = trail(app, job, "*")
    assert event.pop("id") > 0
    now = app.sql("select now()")[0]["now"]
    assert event.pop("created_at") < now
    assert event == FULL | {
        "job_id": uuid.UUID(job.id),
        "event_key": key,
        "event": "started",
        "source": "agent",
        "from_status": None,
        "to_status": None,
        "happened_at": datetime(2026, 5, 6, 5, 8, 9, 123456, tzinfo=UTC),
        "actor_role": "anon",
        "request_id": "req-7",
    }


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"event": "status_changed"}, "23514"),
        ({"event": "celebrated"}, "23514"),
        ({"event": None}, "23502"),
        ({"event_key": ""}, "23514"),
        ({"event_key": "k" * 201}, "23514"),
        ({"event_key": None}, "23502"),
        ({"repo_id": "m" * 201}, "23514"),
        ({"commit_sha": "0" * 39}, "23514"),
        ({"commit_sha": "0" * 41}, "23514"),
        ({"commit_sha": "A" * 40}, "23514"),
        ({"commit_sha": "0" * 40 + "\n"}, "23514"),
        ({"model_url": "m" * 513}, "23514"),
        ({"bytes": -1}, "23514"),
        ({"files": -1}, "23514"),
        ({"attempt": -1}, "23514"),
        ({"attempt": 1001}, "23514"),
        ({"detail": {"words": "x" * 16_384}}, "23514"),
        ({"detail": None}, "23502"),
        ({"happened_at": "infinity"}, "23514"),
        ({"happened_at": "-infinity"}, "23514"),
        ({"job_id": "6f1c2a54-9d0e-4a57-8c11-0123456789ab"}, "23503"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_event_is_refused_to_everybody(columns, code, app, job, pod, server):
    before = app.sql("select count(*) from model_upload_events")
    for client in (pod, server):
        answer = client.add(started(job) | columns)
        # What a pod may say at all is asked first: of which job, and of which Hub.
        by_policy = client is pod and columns.keys() & {"job_id", "model_url"}
        assert answer.json()["code"] == ("42501" if by_policy else code), answer.text
    assert app.sql("select count(*) from model_upload_events") == before


def test_the_address_that_a_pod_tells_is_on_an_allowed_hub(app, job, pod, server):
    elsewhere = "https://elsewhere.example/ada/m"
    answer = pod.add(started(job, model_url=elsewhere))
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert pod.add(started(job, "here", model_url=MODEL)).status_code == 201
    assert server.add(started(job, "there", model_url=elsewhere)).status_code == 201
    assert trail(app, job, "model_url") == [{"model_url": MODEL}, {"model_url": elsewhere}]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("source", "trigger"),
        ("source", "agent"),
        ("from_status", "running"),
        ("to_status", "completed"),
        ("actor_role", "service_role"),
        ("request_id", "req-7"),
        ("created_at", "2026-01-02T03:04:05Z"),
    ],
)
def test_a_pod_does_not_tell_what_only_the_server_knows(column, value, app, job, pod):
    answer = pod.add(started(job, **{column: value}))
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert trail(app, job) == []


def test_what_the_trigger_saw_is_told_by_the_trigger_only(app, job, server):
    forged = {"source": "trigger", "from_status": "running", "to_status": "completed", "actor_role": "anon"}
    for told, code in (
        ({"event": "status_changed"}, "23514"),
        ({"event": "status_changed"} | forged, "42501"),
    ):
        assert server.add(started(job, **told)).json()["code"] == code
    assert trail(app, job) == []


def test_an_address_that_is_too_long_for_an_event_is_cut_there_and_nowhere_else(app, job, server):
    url = "https://elsewhere.example/" + "x" * 600
    server.change(job, model_url=url)
    assert app.row(job.id)["model_url"] == url
    assert trail(app, job, "model_url") == [{"model_url": url[:512]}]


def test_the_platform_adds_events_in_its_own_name(app, job, server):
    assert server.add(started(job, event="released")).status_code == 201
    assert trail(app, job, "event, actor_role") == [{"event": "released", "actor_role": "service_role"}]


def test_a_pod_adds_to_the_trail_of_its_own_job_only(app, http, job, pod):
    other = app.add_job()
    answer = pod.add(started(job), started(other))
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    for headers in ({}, {"x-job-token": "x" * 43}):
        assert Client(app, http, headers).add(started(job)).json()["code"] == "42501"
    assert trail(app, job) == trail(app, other) == []


def test_a_user_reads_and_does_not_write(app, job, owner):
    answer = owner.add(started(job))
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")
    assert trail(app, job) == []


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_pod_tells_what_it_did_after_its_job_ended(status, app, job, pod):
    app.change(job.id, status=status)
    assert pod.add(started(job, event="released")).status_code == 201
    assert trail(app, job, "event") == [{"event": "released"}]


def test_a_pod_whose_token_expired_neither_adds_nor_reads(app, job, pod):
    assert pod.add(started(job)).status_code == 201
    app.change(job.id, job_token_expires_at="2001-01-01")
    assert pod.add(started(job, "late")).json()["code"] == "42501"
    assert pod.sees(job) == []
    assert trail(app, job) == [{"event_key": "k"}]


def test_everybody_reads_the_trails_that_are_theirs(app, http, job, pod, user, owner, server):
    bob = str(app.sql("insert into auth.users (email) values ('bob@lab') returning id")[0]["id"])
    bobs = app.add_job(user_id=bob)
    bobs_pod = Client(app, http, {"x-job-token": bobs.token})
    assert pod.add(started(job, "ours")).status_code == 201
    assert bobs_pod.add(started(bobs, "theirs")).status_code == 201
    nobody = Client(app, http)
    for client, ours, theirs in [
        (pod, True, False),
        (owner, True, False),
        (bobs_pod, False, True),
        (user(bob), False, True),
        (server, True, True),
        (user(str(uuid.uuid4())), False, False),
        (nobody, False, False),
    ]:
        assert client.sees(job) == ([{"event_key": "ours"}] if ours else [])
        assert client.sees(bobs) == ([{"event_key": "theirs"}] if theirs else [])


def told_as(session, role, **settings):
    """Go on as a role of the API, with what the service tells the database of a request."""
    session.execute(f"set local role {role}".encode())
    for name, value in settings.items():
        session.execute("select set_config(%s, %s, true)", [f"request.{name}", json.dumps(value)])


def test_a_user_who_may_look_at_the_jobs_of_others_does_not_read_their_trails(app, job, pod):
    assert pod.add(started(job)).status_code == 201
    seen = "select (select count(*) from local_training_jobs where id = %(job)s) as jobs,"
    seen += " (select count(*) from model_upload_events where job_id = %(job)s) as events"
    with app.connect() as session:
        session.execute(
            "create policy colleagues on local_training_jobs for select to authenticated using (true)"
        )
        told_as(session, "authenticated", **{"jwt.claims": {"sub": str(uuid.uuid4())}})
        rows = session.execute(seen, {"job": job.id}).fetchall()
        session.rollback()
    assert rows == [{"jobs": 1, "events": 0}]


def test_a_pod_forges_no_change_of_its_row_even_where_an_app_granted_it_everything(app, job):
    forged = "insert into model_upload_events (job_id, event_key, event, source) values (%s, 'k', %s, %s)"
    with app.connect() as session:
        session.execute("grant all on model_upload_events to anon")
        told_as(session, "anon", headers={"x-job-token": job.token})
        session.execute(forged, [job.id, "started", "agent"])
        with pytest.raises(psycopg.Error) as refused:
            session.execute(forged, [job.id, "status_changed", "trigger"])
        session.rollback()
    assert "row-level security policy" in refused.value.diag.message_primary


@pytest.mark.parametrize("column", ["id", "*"])
def test_what_counts_the_events_of_everybody_is_shown_to_the_server_only(column, job, pod, owner, server):
    asked = f"{EVENTS}?job_id=eq.{job.id}&select={column}"
    for who, code in ((pod, 401), (owner, 403), (server, 200)):
        assert who.ask("GET", asked).status_code == code


@pytest.mark.parametrize("column", ["actor_role", "request_id"])
def test_what_only_the_server_knows_is_shown_to_users_and_to_no_pod(column, job, pod, owner):
    answer = pod.ask("GET", f"{EVENTS}?job_id=eq.{job.id}&select={column}")
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    assert owner.sees(job, column) == []


def test_a_change_of_the_row_is_told_whole(app, job, pod):
    asked, by = {"status": "completed", "progress": 100, "model_url": MODEL}, {"X-Request-Id": "req-7"}
    assert pod.ask("PATCH", f"{JOBS}?id=eq.{job.id}", json=asked, headers=by).status_code == 204
    (event,) = trail(app, job, "*")
    assert event.pop("id") > 0
    assert re.fullmatch(r"row:[0-9a-f-]{36}", event.pop("event_key"))
    assert event == {
        "job_id": uuid.UUID(job.id),
        "event": "status_changed",
        "source": "trigger",
        "repo_id": None,
        "commit_sha": None,
        "model_url": MODEL,
        "bytes": None,
        "files": None,
        "attempt": None,
        "from_status": "running",
        "to_status": "completed",
        "detail": {"progress": 100},
        "happened_at": None,
        "actor_role": "anon",
        "request_id": "req-7",
        "created_at": app.row(job.id)["completed_at"],
    }


def test_each_change_of_status_or_address_is_one_event_with_who_made_it(app, job, pod, owner, server):
    pod.change(job, status="uploading")
    pod.change(job, status="running", model_url=MODEL)
    server.change(job, model_url=OTHER_MODEL)
    pod.change(job, status="failed", failure_stage="publish", error_message="the Hub said no")
    server.change(job, status="pending")
    owner.change(job, status="cancelled")
    with app.connect() as session:
        session.execute("set local role project_owner")
        session.execute("update local_training_jobs set status = 'queued' where id = %s", [job.id])
    app.sql("update local_training_jobs set status = 'running', model_url = null where id = %s", job.id)
    assert changes(app, job) == [
        ("running", "uploading", None, "anon"),
        ("uploading", "running", MODEL, "anon"),
        ("running", "running", OTHER_MODEL, "service_role"),
        ("running", "failed", OTHER_MODEL, "anon"),
        ("failed", "pending", OTHER_MODEL, "service_role"),
        ("pending", "cancelled", OTHER_MODEL, "authenticated"),
        ("cancelled", "queued", OTHER_MODEL, "project_owner"),
        ("queued", "running", None, "postgres"),
    ]


def test_an_address_that_comes_after_the_end_is_an_event_and_the_same_again_is_none(app, job, pod, server):
    server.change(job, status="completed")
    for _ in range(2):
        pod.change(job, status="completed", model_url=MODEL)
    assert changes(app, job) == [
        ("running", "completed", None, "service_role"),
        ("completed", "completed", MODEL, "anon"),
    ]


def test_a_heartbeat_a_metric_and_a_replay_are_no_events(app, job, pod, server):
    pod.change(job, status="running")
    pod.change(job, progress=50, current_step=7, result_note="half way")
    server.change(job, loss=0.5, status="running")
    app.sql("update local_training_jobs set heartbeat_at = now() where id = %s", job.id)
    assert changes(app, job) == []
    for _ in range(2):
        pod.change(job, status="completed", progress=100)
    assert changes(app, job) == [("running", "completed", None, "anon")]


def test_a_change_that_is_refused_is_no_event(app, job, pod):
    app.change(job.id, status="cancelled")
    asked = {"status": "completed", "progress": 100}
    assert pod.ask("PATCH", f"{JOBS}?id=eq.{job.id}", json=asked).status_code == 409
    assert changes(app, job) == []


def test_changes_of_one_transaction_and_of_one_statement_are_events_of_their_own(app):
    jobs = [app.add_job(model_name="of one statement") for _ in range(3)]
    with app.connect() as session:
        for status in ("paused", "running"):
            by_name = "where model_name = 'of one statement'"
            session.execute(f"update local_training_jobs set status = '{status}' {by_name}".encode())
    told = [("running", "paused", None, "postgres"), ("paused", "running", None, "postgres")]
    assert [changes(app, job) for job in jobs] == [told] * 3


def test_the_trigger_tells_also_where_nobody_else_may(app, job):
    """It writes in the name of the database's owner: no right of the one who changed the row is needed."""
    query = "select to_status, actor_role from model_upload_events where job_id = %s"
    with app.connect() as session:
        session.execute("revoke insert on model_upload_events from anon, authenticated, service_role")
        session.execute("set local role service_role")
        session.execute("update local_training_jobs set status = 'paused' where id = %s", [job.id])
        told = session.execute(query, [job.id]).fetchall()
        session.rollback()
    assert told == [{"to_status": "paused", "actor_role": "service_role"}]
