"""Who may move a job from which status to which, what goes with it, what is added, what changes nothing."""

from __future__ import annotations

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from agent.sandbox.jobs_app import JobsApp, JobSecret

TABLE = "/rest/v1/local_training_jobs"
TOKEN, OTHER_TOKEN = "t" * 43, "o" * 43
MODEL, OTHER_MODEL = "https://huggingface.co/ada/m", "https://huggingface.co/ada/other"
BEFORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FINAL = ("completed", "failed", "cancelled")
STAGES = ("training", "publish", "lost")
STATUS_OF_CODE = {"22P02": 400, "23502": 400, "23514": 400, "42501": 403, "PT409": 409}

# `training`, `publish` and `lost` are `failed` at that stage; `failed` names none.
# ok: it becomes so, with what goes with it · same: success, nothing happens · else the code of the refusal.
GRIDS = {
    "pod": """
               pending queued running paused uploading completed failed training publish lost  cancelled
pending        ok      PT409  ok      PT409  PT409     ok        ok     ok       ok      23514 PT409
queued         PT409   ok     ok      PT409  PT409     ok        ok     ok       ok      23514 PT409
running        PT409   PT409  ok      ok     ok        ok        ok     ok       ok      23514 PT409
paused         PT409   PT409  ok      ok     PT409     ok        ok     ok       ok      23514 PT409
uploading      PT409   PT409  ok      PT409  ok        ok        ok     ok       ok      23514 PT409
completed      PT409   PT409  PT409   PT409  PT409     same      PT409  PT409    PT409   PT409 PT409
completed+url  PT409   PT409  PT409   PT409  PT409     same      PT409  PT409    PT409   PT409 PT409
failed         PT409   PT409  PT409   PT409  PT409     PT409     same   PT409    PT409   PT409 PT409
training       PT409   PT409  PT409   PT409  PT409     PT409     same   same     PT409   PT409 PT409
publish        PT409   PT409  ok      PT409  PT409     ok        same   ok       same    23514 PT409
lost           PT409   PT409  ok      PT409  PT409     ok        same   ok       ok      same  PT409
cancelled      PT409   PT409  PT409   PT409  PT409     PT409     PT409  PT409    PT409   PT409 same
""",
    "owner": """
               pending queued running paused uploading completed failed training publish lost  cancelled
pending        same    PT409  PT409   PT409  PT409     PT409     PT409  42501    42501   42501 ok
queued         PT409   same   PT409   PT409  PT409     PT409     PT409  42501    42501   42501 ok
running        PT409   PT409  same    PT409  PT409     PT409     PT409  42501    42501   42501 ok
paused         PT409   PT409  PT409   same   PT409     PT409     PT409  42501    42501   42501 ok
uploading      PT409   PT409  PT409   PT409  same      PT409     PT409  42501    42501   42501 ok
completed      PT409   PT409  PT409   PT409  PT409     same      PT409  42501    42501   42501 PT409
completed+url  PT409   PT409  PT409   PT409  PT409     same      PT409  42501    42501   42501 PT409
failed         PT409   PT409  PT409   PT409  PT409     PT409     same   42501    42501   42501 PT409
training       PT409   PT409  PT409   PT409  PT409     PT409     same   42501    42501   42501 PT409
publish        PT409   PT409  PT409   PT409  PT409     PT409     same   42501    42501   42501 PT409
lost           PT409   PT409  PT409   PT409  PT409     PT409     same   42501    42501   42501 PT409
cancelled      PT409   PT409  PT409   PT409  PT409     PT409     PT409  42501    42501   42501 same
""",
    "server": """
               pending queued running paused uploading completed failed training publish lost  cancelled
pending        ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
queued         ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
running        ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
paused         ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
uploading      ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
completed      PT409   PT409  PT409   PT409  PT409     ok        PT409  PT409    PT409   PT409 PT409
completed+url  PT409   PT409  PT409   PT409  PT409     ok        PT409  PT409    PT409   PT409 PT409
failed         ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
training       ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
publish        ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
lost           ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
cancelled      ok      ok     ok      ok     ok        PT409     PT409  PT409    PT409   PT409 ok
""",
    "server that may reopen": """
               pending queued running paused uploading completed failed training publish lost  cancelled
pending        ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
queued         ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
running        ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
paused         ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
uploading      ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
completed      ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
completed+url  ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
failed         ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
training       ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
publish        ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
lost           ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
cancelled      ok      ok     ok      ok     ok        ok        ok     ok       ok      ok    ok
""",
}


def parsed(grid):
    head, *lines = (line.split() for line in grid.strip().splitlines())
    return {state: dict(zip(head, cells, strict=True)) for state, *cells in lines}


CELLS = {writer: parsed(grid) for writer, grid in GRIDS.items()}
STATES = list(CELLS["pod"])


def columns_of(state):
    """A row in this state; each has something that a change of its status has to take away."""
    if state.startswith("completed"):
        row = {"status": "completed", "progress": 100.0, "completed_at": BEFORE}
        return row | ({"model_url": MODEL} if state == "completed+url" else {"result_note": "no HF_TOKEN"})
    row = {"status": state, "progress": 40.0, "error_message": "a warning"}
    if state in STAGES:
        row |= {"status": "failed", "failure_stage": state}
    return row | ({"completed_at": BEFORE} if row["status"] in FINAL else {})


class Platform(JobsApp):
    """A platform whose database is asked in one session: connections take longer than questions."""

    @cached_property
    def session(self):
        session = self.connect()
        session.autocommit = True
        return session

    def __exit__(self, *error):
        self.session.close()
        super().__exit__(*error)

    def sql(self, query, *values, past_triggers=False):
        assert not past_triggers
        cursor = self.session.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []


@dataclass
class Writer:
    """Somebody who changes rows; the word is `ok` for an answer of success, else the code of the refusal."""

    app: Platform
    client: httpx.Client
    name: str = "pod"
    token: str | None = TOKEN

    def headers(self):
        if self.name == "server":
            return {"apikey": self.app.rest.secret_key}
        if self.name == "owner":
            jwt = self.app.rest.jwt("authenticated", sub=self.app.owner)
            return {"apikey": self.app.key, "Authorization": f"Bearer {jwt}"}
        return {"apikey": self.app.key} | ({"X-Job-Token": self.token} if self.token else {})

    def ask(self, method, query, **request):
        headers = self.headers() | {"Prefer": "return=representation"} | request.pop("headers", {})
        return self.client.request(method, f"{self.app.url}{TABLE}", params=query, headers=headers, **request)

    def sees(self, job, **headers):
        answer = self.ask("GET", {"id": f"eq.{job.id}", "select": "id"}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json() == [{"id": job.id}]

    def write(self, job, **changes):
        if self.name == "server that may reopen":
            return self._write_past_the_end(job, changes)
        answer = self.ask("PATCH", {"id": f"eq.{job.id}", "select": "id,status"}, json=changes)
        if answer.status_code == 200:
            status = changes.get("status", self.app.row(job.id)["status"])
            assert answer.json() == [{"id": job.id, "status": status}]
            return "ok"
        assert answer.status_code == STATUS_OF_CODE[answer.json()["code"]], answer.text
        return answer.json()["code"]

    def note(self, job, note, **headers):
        """Add a note; returns whether the row has it, else the code of the refusal."""
        url, headers = f"{self.app.url}/rest/v1/rpc/note_on_job", self.headers() | headers
        answer = self.client.post(url, json={"job": job.id, "note": note}, headers=headers)
        return answer.json() if answer.status_code == 200 else answer.json()["code"]

    def _write_past_the_end(self, job, changes):
        settings = ", ".join(f"{name} = %s" for name in changes)
        update = f"update local_training_jobs set {settings} where id = %s".encode()
        session = self.app.session
        try:
            with session.transaction():
                session.execute("set local role service_role")
                session.execute("set local app.allow_reopen = 'on'")
                session.execute(update, [*changes.values(), job.id])
        except psycopg.Error as error:
            return error.sqlstate
        return "ok"


@pytest.fixture(scope="module")
def app(cluster):
    """One platform for all tests here; each has rows of its own."""
    with Platform(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def client():
    with httpx.Client(timeout=30) as opened:
        yield opened


@pytest.fixture
def pod(app, client):
    return Writer(app, client)


@pytest.fixture
def owner(app, client):
    return Writer(app, client, "owner")


@pytest.fixture
def server(app, client):
    return Writer(app, client, "server")


@pytest.fixture
def put(app):
    """Insert a row as it was long ago: `put("running", progress=10)`."""

    def insert(state="running", **columns):
        times = {"updated_at": BEFORE, "heartbeat_at": BEFORE, "started_at": BEFORE}
        row: dict[str, Any] = times | {"metadata": Jsonb({"kept": True})} | columns_of(state) | columns
        return app.add_job(token=TOKEN, **row)

    return insert


def changed(app, job, before):
    """The columns that differ from before, with what they hold now."""
    return {name: value for name, value in app.row(job.id).items() if value != before[name]}


def and_its_times(app, job, **changes):
    """What a pod changed, and the time of the server that goes with it."""
    now = app.row(job.id)["updated_at"]
    assert now > BEFORE
    return changes | {"updated_at": now, "heartbeat_at": now}


def with_what_goes_with_it(before, asked, writer, now):
    """The whole row after an allowed change: times are the server's, and nothing contradicts the status."""
    row = before | asked | {"updated_at": now}
    if writer == "pod":
        row["heartbeat_at"] = now
    if row["status"] != before["status"]:
        row["completed_at"] = now if row["status"] in FINAL else None
        if writer != "pod" and before["status"] in FINAL and row["status"] not in FINAL:
            row["heartbeat_at"] = None
        if row["status"] == "completed":
            row |= {"progress": 100.0, "error_message": None}
        if row["status"] != "failed":
            row["failure_stage"] = None
        elif writer == "pod":
            row["failure_stage"] = asked.get("failure_stage", "training")
    return row


def test_the_grids_cover_every_state_and_every_status():
    active, failed = ["pending", "queued", "running", "paused", "uploading"], ["failed", *STAGES]
    statuses = [*active, "completed", *failed, "cancelled"]
    for cells in CELLS.values():
        assert list(cells) == [*active, "completed", "completed+url", *failed, "cancelled"]
        assert [list(row) for row in cells.values()] == [statuses] * len(STATES)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("writer", CELLS)
def test_a_status_changes_as_the_grid_says_or_the_row_stays_as_it_is(writer, state, app, client, put):
    by, seen = Writer(app, client, writer), {}
    for target in CELLS[writer][state]:
        job = put(state)
        before = app.row(job.id)
        asked = {"status": "failed", "failure_stage": target} if target in STAGES else {"status": target}
        progress = {"progress": 100.0} if (writer, target) == ("pod", "completed") else {}
        said, after = by.write(job, **asked | progress), app.row(job.id)
        seen[target] = "same" if said == "ok" and after == before else said
        if seen[target] == "ok":
            assert after["updated_at"] > BEFORE
            assert after == with_what_goes_with_it(before, asked, writer, after["updated_at"])
        else:
            assert after == before
    assert seen == CELLS[writer][state]


@contextmanager
def session_of(app, role, *, reopen=None, grants=False):
    """A transaction of a role of the API, told nothing by the service; it is rolled back."""
    with app.connect() as session:
        if grants:
            session.execute("grant select, update on local_training_jobs to anon")
        session.execute(f"set local role {role}")
        for name, value in {"headers": {"x-job-token": TOKEN}, "jwt.claims": {"sub": app.owner}}.items():
            session.execute("select set_config(%s, %s, true)", [f"request.{name}", json.dumps(value)])
        if reopen:
            session.execute(f"set local app.allow_reopen = '{reopen}'".encode())
        yield session
        session.rollback()


@pytest.mark.parametrize("state", ["completed", "cancelled", "training"])
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_setting_that_reopens_jobs_opens_nothing_to_a_pod_or_a_user(role, state, app, put):
    job = put(state)
    with session_of(app, role, reopen="on") as session, pytest.raises(psycopg.Error) as refused:
        session.execute("update local_training_jobs set status = 'running' where id = %s", [job.id])
    assert refused.value.sqlstate == "PT409"


@pytest.mark.parametrize("setting", ["off", "true"])
def test_jobs_are_reopened_by_one_word_only(setting, app, put):
    job = put("completed")
    with session_of(app, "service_role", reopen=setting) as session, pytest.raises(psycopg.Error) as refused:
        session.execute("update local_training_jobs set status = 'running' where id = %s", [job.id])
    assert refused.value.diag.message_primary == "completed jobs cannot be reopened"


@pytest.mark.parametrize("statement", ["status = 'running'", "status = 'failed'", "status = 'cancelled'"])
def test_the_owner_of_the_database_reopens_no_completed_job_by_accident(statement, app, put):
    job = put("completed")
    with session_of(app, "project_owner") as session, pytest.raises(psycopg.Error) as refused:
        session.execute(f"update local_training_jobs set {statement} where id = %s".encode(), [job.id])
    assert refused.value.diag.message_primary == "completed jobs cannot be reopened"


@pytest.mark.parametrize("column", ["id", "user_id", "job_token", "job_token_hash", "job_token_expires_at"])
def test_a_pod_does_not_change_whose_job_it_is_even_where_an_app_granted_it_everything(column, app, put):
    job = put()
    values = {"job_token_hash": b"another", "job_token_expires_at": "2999-01-01", "job_token": None}
    update = f"update local_training_jobs set {column} = %s where id = %s".encode()
    with session_of(app, "anon", grants=True) as session, pytest.raises(psycopg.Error) as refused:
        session.execute(update, [values.get(column, uuid.uuid4()), job.id])
    assert (refused.value.sqlstate, refused.value.diag.message_primary) == ("PT403", "immutable column")


def test_times_are_the_servers_even_where_an_app_granted_a_pod_everything(app, put):
    job = put("running")
    with session_of(app, "anon", grants=True) as session:
        row = session.execute(
            "update local_training_jobs set updated_at = %(long_ago)s, heartbeat_at = %(long_ago)s,"
            " completed_at = %(long_ago)s where id = %(job)s returning *, now()",
            {"long_ago": "2001-01-01", "job": job.id},
        ).fetchone()
    assert row["completed_at"] is None
    assert row["updated_at"] == row["heartbeat_at"] == row["now"]


@pytest.mark.parametrize(
    ("held", "wanted", "said"),
    [
        (None, 0, "ok"),
        (40, 40, "ok"),
        (40, 40.5, "ok"),
        (40, 39.5, "PT409"),
        (40, 0, "PT409"),
        (40, None, "PT409"),
        (0, None, "PT409"),
    ],
)
def test_the_progress_of_a_pod_never_goes_backwards(held, wanted, said, app, put, pod):
    job = put(progress=held)
    before = app.row(job.id)
    assert pod.write(job, progress=wanted) == said
    if said == "ok":
        new = {} if wanted == held else {"progress": wanted}
        assert changed(app, job, before) == and_its_times(app, job, **new)
    else:
        assert app.row(job.id) == before


def test_a_mended_publication_does_not_go_back_behind_its_progress(app, put, pod):
    job = put("publish", progress=97)
    assert pod.write(job, status="running", progress=5) == "PT409"
    assert pod.write(job, status="running") == "ok"
    assert app.row(job.id)["progress"] == 97


def test_the_platform_may_begin_the_progress_anew(app, put, server):
    job = put("failed", progress=97)
    assert server.write(job, status="pending", progress=0) == "ok"
    assert app.row(job.id)["progress"] == 0


@pytest.mark.parametrize("progress", [99.9, 0, None, "NaN"])
def test_a_pod_completes_with_100_only(progress, app, put, pod):
    job = put(progress=None)
    before = app.row(job.id)
    assert pod.write(job, status="completed", progress=progress) == "23514"
    assert app.row(job.id) == before


def test_a_pod_that_does_not_speak_of_progress_does_not_complete(app, put, pod):
    job = put(progress=99)
    before = app.row(job.id)
    assert pod.write(job, status="completed") == "23514"
    assert app.row(job.id) == before
    assert pod.write(put(progress=100), status="completed") == "ok"


@pytest.mark.parametrize("changes", [{}, {"progress": 37}, {"progress": None}])
def test_what_the_platform_completes_has_100_by_itself(changes, app, put, server):
    for held in (None, 12.5):
        job = put(progress=held)
        assert server.write(job, status="completed", **changes) == "ok"
        assert app.row(job.id)["progress"] == 100


@pytest.mark.parametrize("progress", ["NaN", "Infinity", "-Infinity", 100.001, -0.001])
@pytest.mark.parametrize("writer", ["pod", "server"])
def test_progress_is_a_number_from_0_to_100(writer, progress, app, client, put):
    job = put(progress=None)
    before = app.row(job.id)
    assert Writer(app, client, writer).write(job, progress=progress) == "23514"
    assert app.row(job.id) == before


@pytest.mark.parametrize(
    ("writer", "changes", "code"),
    [
        ("pod", {"status": "archived"}, "PT409"),
        ("server", {"status": "archived"}, "23514"),
        ("pod", {"status": "failed", "failure_stage": "somewhere"}, "23514"),
        ("server", {"status": "failed", "failure_stage": "somewhere"}, "23514"),
        ("pod", {"status": None}, "23502"),
        ("server", {"status": None}, "23502"),
    ],
)
def test_a_status_or_stage_that_nobody_knows_is_refused(writer, changes, code, app, client, put):
    job = put()
    before = app.row(job.id)
    assert Writer(app, client, writer).write(job, **changes) == code
    assert app.row(job.id) == before


@pytest.mark.parametrize("column", ["error_message", "result_note"])
def test_a_pod_writes_8000_characters_and_not_one_more(column, app, put, pod):
    job = put()
    assert pod.write(job, **{column: "☃" * 8000}) == "ok"
    before = app.row(job.id)
    assert before[column] == "☃" * 8000
    assert pod.write(job, **{column: "x" * 8001}) == "23514"
    assert app.row(job.id) == before


@pytest.mark.parametrize("column", ["error_message", "result_note"])
def test_a_long_message_of_the_platform_does_not_keep_a_pod_from_its_row(column, app, put, pod):
    job = put(**{column: "x" * 20_000})
    before = app.row(job.id)
    assert pod.write(job, status="running") == "ok"
    assert changed(app, job, before) == and_its_times(app, job)


@pytest.mark.parametrize(("held", "mended"), [(250.0, 100), (float("nan"), 0), (-1.0, 0)])
def test_a_progress_from_before_the_rules_keeps_nobody_from_the_row(held, mended, app, client, put):
    for writer, changes in (("pod", {"status": "running"}), ("owner", {"status": "cancelled"})):
        app.sql("alter table local_training_jobs drop constraint ltj_progress_chk")
        job = put(progress=held)
        check = "progress is null or (progress >= 0 and progress <= 100)"
        app.sql(f"alter table local_training_jobs add constraint ltj_progress_chk check ({check}) not valid")
        assert Writer(app, client, writer).write(job, **changes) == "ok"
        assert app.row(job.id)["progress"] == mended
        pod_too = Writer(app, client).write(job, status="completed", progress=100)
        assert pod_too == ("ok" if writer == "pod" else "PT409")


def test_a_stage_without_a_failure_is_refused(app, put, pod, server):
    job = put()
    before = app.row(job.id)
    for writer in (pod, server):
        for stage in STAGES:
            assert writer.write(job, failure_stage=stage) == "23514"
            assert app.row(job.id) == before


def test_the_times_of_a_job_are_not_its_owners(app, put, owner):
    job = put()
    before = app.row(job.id)
    assert owner.write(job, completed_at="2001-01-01", updated_at="2999-01-01") == "ok"
    assert app.row(job.id) == before
    assert owner.write(job, status="cancelled", completed_at="2001-01-01", updated_at="2999-01-01") == "ok"
    row = app.row(job.id)
    assert BEFORE < row["completed_at"] == row["updated_at"] < datetime(2999, 1, 1, tzinfo=UTC)


def test_a_role_that_a_platform_made_for_its_pods_obeys_the_rules_of_pods(app, put):
    job = put("cancelled")
    with app.connect() as session:
        session.execute("create role pods; grant anon to pods")
        session.execute("set local role pods")
        headers = json.dumps({"x-job-token": TOKEN})
        session.execute("select set_config('request.headers', %s, true)", [headers])
        with pytest.raises(psycopg.Error) as refused:
            session.execute("update local_training_jobs set status = 'running' where id = %s", [job.id])
        session.rollback()
    assert refused.value.sqlstate == "PT409"


def test_a_pod_that_fails_without_a_stage_failed_in_training(app, put, pod):
    job = put()
    assert pod.write(job, status="failed", failure_stage=None) == "ok"
    assert app.row(job.id)["failure_stage"] == "training"


def test_a_publication_fails_again_with_another_message(app, put, pod):
    job = put("publish", error_message="the Hub said no")
    before = app.row(job.id)
    assert pod.write(job, status="failed", failure_stage="publish", error_message="no again") == "ok"
    assert changed(app, job, before) == and_its_times(app, job, error_message="no again")


def test_a_heartbeat_moves_the_two_times_and_nothing_else(app, put, pod):
    for state in ("pending", "queued", "running", "paused", "uploading", "publish", "lost"):
        job = put(state)
        before = app.row(job.id)
        assert pod.write(job, current_step=7) == "ok"
        assert changed(app, job, before) == and_its_times(app, job, current_step=7)


def test_a_metric_that_the_platform_passes_on_is_a_sign_of_life_but_no_heartbeat(app, put, server):
    job = put()
    before = app.row(job.id)
    assert server.write(job, loss=0.5, updated_at="2001-01-01T00:00:00Z") == "ok"
    now = app.row(job.id)["updated_at"]
    assert now > BEFORE
    assert changed(app, job, before) == {"loss": 0.5, "updated_at": now}


def test_the_pod_says_when_the_training_began_and_the_server_when_it_ended(app, put, pod):
    job, began = put("pending", started_at=None), datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    assert pod.write(job, status="running", started_at=began.isoformat()) == "ok"
    assert pod.write(job, status="completed", progress=100) == "ok"
    row = app.row(job.id)
    assert row["started_at"] == began
    assert row["completed_at"] == row["updated_at"] == row["heartbeat_at"] > BEFORE


LAST_WORDS = {
    "completed": {"status": "completed", "progress": 100, "model_url": MODEL, "result_note": "late"},
    "completed without a model": {"status": "completed", "progress": 100},
    "failed training": {"status": "failed", "error_message": "CUDA out of memory"},
    "failed publication": {"status": "failed", "error_message": "refused", "failure_stage": "publish"},
    "with a time and metrics": {
        "status": "completed",
        "progress": 100,
        "started_at": "2026-05-06T07:08:09.123456+02:00",
        "loss": 0.1,
        "total_steps": 7,
    },
}


@pytest.mark.parametrize("last_word", LAST_WORDS)
def test_the_same_last_word_again_succeeds_and_changes_nothing(last_word, app, put, pod):
    job = put()
    assert pod.write(job, **LAST_WORDS[last_word]) == "ok"
    before = app.row(job.id)
    for _ in range(2):
        assert pod.write(job, **LAST_WORDS[last_word]) == "ok"
        assert app.row(job.id) == before


ANOTHER = {
    "status": "running",
    "progress": 41,
    "model_url": OTHER_MODEL,
    "error_message": "another",
    "result_note": "another",
    "failure_stage": "publish",
    "started_at": "2026-01-02T03:04:06Z",
    "upload_attempt": 7,
    "current_step": 7,
    "current_epoch": 0.5,
    "total_steps": 7,
    "total_epochs": 7,
    "loss": 0.5,
    "eval_loss": 0.5,
    "learning_rate": 0.5,
    "grad_norm": 0.5,
    "samples_per_second": 0.5,
    "gpu_memory_allocated_gb": 0.5,
    "gpu_memory_reserved_gb": 0.5,
    "elapsed_seconds": 7,
    "remaining_seconds": 7,
}


def test_another_value_is_known_for_every_column_of_a_pod(app):
    columns = app.sql("select unnest(private.pod_columns()) as name order by name")
    assert [column["name"] for column in columns] == sorted(ANOTHER)


@pytest.mark.parametrize("state", ["completed", "completed+url", "failed", "training", "cancelled"])
def test_a_last_word_that_differs_in_one_column_is_refused(state, app, put, pod):
    job = put(state)
    before = app.row(job.id)
    again = {name: before[name] for name in ("status", "progress", "error_message")}
    for column, value in ANOTHER.items():
        if (state, column) != ("completed", "model_url"):
            assert pod.write(job, **again | {column: value}) == "PT409", column
            assert app.row(job.id) == before


@pytest.mark.parametrize("status", [{}, {"status": "completed"}], ids=["address alone", "completed again"])
def test_a_job_that_something_else_completed_gets_its_address_once_and_nothing_with_it(status, app, put, pod):
    job = put("completed", result_note="no HF_TOKEN")
    before = app.row(job.id)
    besides = {name: ANOTHER[name] for name in ANOTHER.keys() - {"status", "model_url"}}
    assert pod.write(job, **besides | status | {"model_url": MODEL}) == "ok"
    linked = {"model_url": MODEL, "result_note": None, "metadata": {"kept": True, "hf_repo": "ada/m"}}
    assert changed(app, job, before) == and_its_times(app, job, **linked)
    before = app.row(job.id)
    assert pod.write(job, **status | {"model_url": MODEL}) == "ok"
    for other in (OTHER_MODEL, None):
        assert pod.write(job, **status | {"model_url": other}) == "PT409"
    assert app.row(job.id) == before


@pytest.mark.parametrize("status", ["running", "failed", "cancelled"])
def test_an_address_brings_no_other_status_to_a_completed_job(status, app, put, pod):
    job = put("completed")
    before = app.row(job.id)
    assert pod.write(job, status=status, model_url=MODEL) == "PT409"
    assert app.row(job.id) == before


@pytest.mark.parametrize("state", ["failed", "training", "cancelled"])
def test_a_job_that_ended_without_a_model_gets_no_address(state, app, put, pod):
    job = put(state)
    before = app.row(job.id)
    assert pod.write(job, model_url=MODEL) == "PT409"
    assert app.row(job.id) == before


@pytest.mark.parametrize(
    ("path", "repo"),
    [
        ("/ada/m", "ada/m"),
        ("/ada/My_model-7b.v2", "ada/My_model-7b.v2"),
        ("/ada/m/tree/dev", "ada/m"),
        ("/ada/m/tree/feature/x", "ada/m"),
        ("/ada/m/tree/a%20b", "ada/m"),
        ("/ada/" + "m" * 485, "ada/" + "m" * 485),
    ],
    ids=lambda value: value[:24],
)
def test_an_address_on_an_allowed_hub_brings_the_name_of_the_repo_along(path, repo, app, put, pod):
    job = put()
    before = app.row(job.id)
    url = f"https://huggingface.co{path}"
    assert pod.write(job, model_url=url) == "ok"
    there = {"model_url": url, "metadata": {"kept": True, "hf_repo": repo}}
    assert changed(app, job, before) == and_its_times(app, job, **there)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://huggingface.co",
        "https://huggingface.co/",
        "https://huggingface.co//ada/m",
        "https://huggingface.co/ada/m/",
        "https://huggingface.co/../m",
        "https://huggingface.co/ada/.hidden",
        "https://huggingface.co/ada/m?next=https://elsewhere.example",
        "https://huggingface.co/ada/m#fragment",
        "https://huggingface.co/ada/m\n",
        "https://huggingface.co/ada/m\nhttps://elsewhere.example",
        "https://huggingface.co/ada/<script>",
        "https://huggingface.co/ada/" + "m" * 486,
        "https://huggingface.co:8443/ada/m",
        "https://huggingface.co.elsewhere.example/ada/m",
        "https://huggingface.co@elsewhere.example/ada/m",
        "https://ada@huggingface.co/ada/m",
        "https://elsewhere.example/https://huggingface.co/ada/m",
        "http://huggingface.co/ada/m",
        "HTTPS://huggingface.co/ada/m",
        " https://huggingface.co/ada/m",
        "javascript:alert(1)",
    ],
    ids=lambda value: repr(value[:48]),
)
def test_an_address_anywhere_else_is_refused_in_an_open_row_and_in_a_completed_one(url, app, put, pod):
    for state in ("running", "completed"):
        job = put(state)
        before = app.row(job.id)
        answer = pod.ask("PATCH", {"id": f"eq.{job.id}", "select": "id"}, json={"model_url": url})
        assert (answer.status_code, answer.json()["message"]) == (400, "model_url is not on an allowed Hub")
        assert app.row(job.id) == before


def test_an_address_is_looked_at_when_it_is_written_and_never_again(app, put, pod):
    job, hub = put(), "https://hub.lab:8443"
    assert pod.write(job, model_url=f"{hub}/ada/m") == "23514"
    app.allow_hub(hub)
    assert pod.write(job, model_url=f"{hub}/ada/m") == "ok"
    app.sql("delete from private.model_hosts where origin = %s", hub)
    assert pod.write(job, status="completed", progress=100, model_url=f"{hub}/ada/m") == "ok"
    assert app.row(job.id)["metadata"] == {"kept": True, "hf_repo": "ada/m"}


def test_a_hub_is_known_beside_another_one_whose_address_begins_the_same(app, put, pod):
    app.allow_hub("https://hub.example")
    app.allow_hub("https://hub.example:8443")
    for origin in ("https://hub.example", "https://hub.example:8443"):
        assert pod.write(put(), model_url=f"{origin}/ada/m") == "ok"
    assert pod.write(put(), model_url="https://hub.example:84/ada/m") == "23514"


def test_a_pod_allows_itself_no_hub(app):
    with session_of(app, "anon") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("insert into private.model_hosts values ('https://elsewhere.example')")


@pytest.mark.parametrize(
    ("held", "seen"),
    [
        (None, {"hf_repo": "ada/m"}),
        (Jsonb({}), {"hf_repo": "ada/m"}),
        (Jsonb({"hf_repo": "ada/old", "note": 1}), {"hf_repo": "ada/m", "note": 1}),
        (Jsonb([1]), [1]),
        (Jsonb("text"), "text"),
        (Jsonb(7), 7),
    ],
    ids=["null", "empty", "object", "list", "text", "number"],
)
def test_metadata_that_cannot_hold_a_name_is_no_reason_to_refuse_the_address(held, seen, app, put, pod):
    job = put(metadata=held)
    assert pod.write(job, model_url=MODEL) == "ok"
    assert (app.row(job.id)["model_url"], app.row(job.id)["metadata"]) == (MODEL, seen)


def test_the_platform_may_point_anywhere(app, put, server):
    job = put()
    before = app.row(job.id)
    assert server.write(job, model_url="https://elsewhere.example/m?v=1") == "ok"
    assert changed(app, job, before).keys() == {"model_url", "updated_at"}


def inserted(app, server, **columns):
    """A row that the platform's server inserts over HTTP."""
    row = {"id": str(uuid.uuid4()), "user_id": app.owner, "model_name": "m", "status": "running"} | columns
    answer = server.ask("POST", {"select": "id"}, json=row)
    assert (answer.status_code, answer.json()) == (201, [{"id": row["id"]}])
    return JobSecret(row["id"], TOKEN)


def test_an_app_that_goes_on_inserting_tokens_opens_its_rows_to_them(app, pod, server):
    job = inserted(app, server, job_token=TOKEN)
    assert app.row(job.id)["job_token_hash"] == hashlib.sha256(TOKEN.encode()).digest()
    assert pod.sees(job)
    assert not Writer(app, pod.client, token=OTHER_TOKEN).sees(job)
    assert not Writer(app, pod.client, token=None).sees(job)


def test_an_app_may_keep_the_hash_of_the_token_only(app, pod, server):
    job = inserted(app, server, job_token_hash="\\x" + hashlib.sha256(TOKEN.encode()).hexdigest())
    assert app.row(job.id)["job_token"] is None
    assert pod.sees(job)
    assert pod.write(job, progress=50) == "ok"


def test_a_token_that_the_app_takes_out_still_opens_the_row(app, put, pod, server):
    job = put()
    assert server.write(job, job_token=None) == "ok"
    assert app.row(job.id)["job_token"] is None
    assert pod.sees(job)
    assert pod.write(job, progress=50) == "ok"


def test_a_new_token_closes_the_row_to_the_old_one(app, client, put, pod, server):
    job, other = put(), Writer(app, client, token=OTHER_TOKEN)
    assert (pod.sees(job), other.sees(job)) == (True, False)
    assert server.write(job, job_token=OTHER_TOKEN) == "ok"
    assert (pod.sees(job), other.sees(job)) == (False, True)
    assert server.write(job, status="uploading") == "ok"
    assert (pod.sees(job), other.sees(job)) == (False, True)


@pytest.mark.parametrize(("length", "opens"), [(31, False), (32, True), (256, True), (257, False)])
def test_a_token_that_can_be_guessed_opens_nothing(length, opens, app, client, put):
    job = put(job_token="s" * length)
    assert Writer(app, client, token="s" * length).sees(job) is opens


@pytest.mark.parametrize(("until", "opens"), [("2001-01-01", False), ("2999-01-01", True), (None, True)])
def test_a_token_opens_the_row_until_it_expires(until, opens, app, put, pod):
    job = put(job_token_expires_at=until)
    before = app.row(job.id)
    assert pod.sees(job) is opens
    answer = pod.ask("PATCH", {"id": f"eq.{job.id}", "select": "id"}, json={"progress": 50})
    assert (answer.status_code, answer.json()) == (200, [{"id": job.id}] if opens else [])
    assert (app.row(job.id) == before) is not opens


def bearer(app, role="anon", **claims):
    return {"Authorization": f"Bearer {app.rest.jwt(role, **claims)}"}


def test_a_signed_claim_opens_the_row_of_its_job_only(app, client, put):
    job, other, pod = put(), put(), Writer(app, client, token=None)
    for claim in (job.id, job.id.upper()):
        assert pod.sees(job, **bearer(app, job_id=claim))
        assert not pod.sees(other, **bearer(app, job_id=claim))
    changes = {"status": "completed", "progress": 100}
    query, claim = {"id": f"eq.{job.id}", "select": "id"}, bearer(app, job_id=job.id)
    assert pod.ask("PATCH", query, json=changes, headers=claim).json() == [{"id": job.id}]
    assert app.row(job.id)["status"] == "completed"


@pytest.mark.parametrize(
    "claim",
    [
        "",
        "x",
        "{id} ",
        "x{id}",
        "{{id}}",
        "{id}\n",
        "{id}' or true --",
        5,
        True,
        None,
        {"id": "{id}"},
        ["{id}"],
    ],
    ids=repr,
)
def test_a_claim_that_is_no_id_opens_nothing_and_is_no_error(claim, app, client, put):
    job = put()
    said = json.loads(json.dumps(claim).replace("{id}", job.id))
    assert not Writer(app, client, token=None).sees(job, **bearer(app, job_id=said))
    assert Writer(app, client).sees(job, **bearer(app, job_id=said))


def test_a_claim_of_a_signed_in_user_opens_nothing(app, client, put):
    job, stranger = put(), str(uuid.uuid4())
    user = Writer(app, client, token=None)
    assert not user.sees(job, **bearer(app, "authenticated", sub=stranger, job_id=job.id))
    assert user.sees(job, **bearer(app, "authenticated", sub=app.owner))


def test_an_app_that_completes_without_looking_keeps_its_own_time(app, put, server):
    job = put()
    assert server.write(job, status="completed", completed_at="2026-05-06T07:08:09Z") == "ok"
    row = app.row(job.id)
    assert (row["status"], row["progress"], row["error_message"]) == ("completed", 100, None)
    assert row["completed_at"] == datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert row["updated_at"] > BEFORE


def test_an_app_that_fails_a_job_without_looking_keeps_its_long_message(app, put, server):
    job = put()
    assert server.write(job, status="failed", error_message="x" * 20_000) == "ok"
    row = app.row(job.id)
    assert (row["status"], row["error_message"], row["failure_stage"]) == ("failed", "x" * 20_000, None)
    assert row["completed_at"] == row["updated_at"] > BEFORE


@pytest.mark.parametrize("state", ["pending", "queued", "running", "paused", "uploading"])
@pytest.mark.parametrize("writer", ["server", "owner"])
def test_an_app_that_cancels_without_looking_cancels_what_is_active(writer, state, app, client, put):
    job = put(state)
    sent = {"completed_at": "2026-05-06T07:08:09Z", "updated_at": "2026-05-06T07:08:09Z"}
    assert Writer(app, client, writer).write(job, status="cancelled", **sent) == "ok"
    row = app.row(job.id)
    assert (row["status"], row["progress"]) == ("cancelled", 40)
    assert row["completed_at"] > BEFORE
    assert row["updated_at"] > datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("completed+url", "completed jobs cannot be reopened"),
        ("cancelled", "a cancelled job stays cancelled"),
    ],
)
def test_an_app_that_comes_too_late_is_told_so(state, reason, app, put, server):
    job = put(state)
    before = app.row(job.id)
    late = {"status": "failed", "error_message": "no updates for 600 s"}
    answer = server.ask("PATCH", {"id": f"eq.{job.id}"}, json=late)
    assert (answer.status_code, answer.json()["message"]) == (409, reason)
    assert app.row(job.id) == before


# A sentence that is added to what a row says

NOTE = "Nothing could stop this pod, and it goes on costing money."


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("writer", ["pod", "server"])
def test_a_note_is_added_in_every_state_and_nothing_else_changes(writer, state, app, client, put):
    by, job = Writer(app, client, writer), put(state)
    before = app.row(job.id)
    told = f"{before['result_note']}\n{NOTE}" if before["result_note"] else NOTE
    for _ in range(2):
        assert by.note(job, NOTE) is True
        assert changed(app, job, before) == {"result_note": told}
    assert by.note(job, "Stop it by hand.") is True
    assert changed(app, job, before) == {"result_note": f"{told}\nStop it by hand."}


def test_a_note_that_is_there_already_does_not_even_write_the_row(app, put, pod):
    job, version = put("completed"), "select xmin::text from local_training_jobs where id = %s"
    assert pod.note(job, NOTE) is True
    before = app.sql(version, job.id)
    assert pod.note(job, NOTE) is True
    assert app.sql(version, job.id) == before
    assert pod.note(job, f"{NOTE} Again.") is True
    assert app.sql(version, job.id) != before


def test_a_sentence_is_there_only_if_it_is_there_as_a_whole(app, put, pod):
    job = put("completed", result_note=f"It was said: {NOTE}")
    assert pod.note(job, NOTE) is True
    assert app.row(job.id)["result_note"] == f"It was said: {NOTE}\n{NOTE}"


def test_a_note_tells_the_audit_trail_nothing_and_is_no_sign_of_life(app, put, pod, server):
    job = put("running")
    events = "select count(*) from model_upload_events where job_id = %s"
    assert pod.note(job, NOTE) is True
    assert app.sql(events, job.id) == [{"count": 0}]
    answer = server.client.post(
        f"{app.url}/rest/v1/rpc/mark_stale_jobs", json={"silent_for": "10 minutes"}, headers=server.headers()
    )
    assert job.id in answer.json()
    lost = app.row(job.id)
    assert pod.note(job, "Still here.") is True
    assert changed(app, job, lost) == {"result_note": f"{NOTE}\nStill here."}


def test_a_note_does_not_keep_a_failed_publication_from_being_mended(app, put, pod):
    job = put("publish")
    assert pod.note(job, NOTE) is True
    assert pod.write(job, status="completed", progress=100, model_url=MODEL, result_note=None) == "ok"
    assert app.row(job.id)["result_note"] is None


@pytest.mark.parametrize("held", ["x" * 7000, "", None])
def test_all_notes_together_have_8000_characters_and_none_takes_another_away(held, app, put, pod):
    job = put("completed", result_note=held)
    room = 8000 - (len(held) + 1 if held else 0)
    assert pod.note(job, "\u2603" * (room + 1)) == "23514"
    assert app.row(job.id)["result_note"] == held
    assert pod.note(job, "\u2603" * room) is True
    before = app.row(job.id)
    assert before["result_note"] == "\n".join(filter(None, [held, "\u2603" * room]))
    assert pod.note(job, "\u2603" * room) is True
    assert pod.note(job, "x") == "23514"
    assert app.row(job.id) == before


@pytest.mark.parametrize(
    ("note", "code"), [("", "23514"), (None, "23514"), ("x" * 8001, "23514"), ("a\0b", "22P05")]
)
def test_what_is_no_note_is_refused_before_any_row_is_looked_at(note, code, app, put, pod):
    job = put("completed")
    before = app.row(job.id)
    assert pod.note(job, note) == pod.note(JobSecret(str(uuid.uuid4()), TOKEN), note) == code
    assert app.row(job.id) == before


def test_a_row_that_breaks_a_rule_of_the_app_is_not_shown_to_its_pod(app, put, pod):
    """PostgreSQL shows the row that it refuses to whoever has all rights to it, as the function has."""
    app.sql("alter table local_training_jobs add constraint short check (length(result_note) < 99) not valid")
    job = put("completed")
    asked, url = {"job": job.id, "note": "x" * 100}, f"{app.url}/rest/v1/rpc/note_on_job"
    answer = pod.client.post(url, json=asked, headers=pod.headers())
    app.sql("alter table local_training_jobs drop constraint short")
    assert (answer.status_code, answer.json()["code"], answer.json()["details"]) == (400, "23514", None)
    assert '"short"' in answer.json()["message"]
    assert app.row(job.id)["result_note"] == "no HF_TOKEN"


OWN = {"X-Job-Token": TOKEN}
# What the row holds, and what is sent: a token, or claims in which {id} is the job's.
CREDENTIALS = {
    "its token": ({}, OWN),
    "no credential": ({}, {}),
    "another token": ({}, {"X-Job-Token": OTHER_TOKEN}),
    "a token that expired": ({"job_token_expires_at": "2001-01-01"}, OWN),
    "a token that will expire": ({"job_token_expires_at": "2999-01-01"}, OWN),
    "a token that can be guessed": ({"job_token": "s" * 31}, {"X-Job-Token": "s" * 31}),
    "a token where there is none": ({"job_token": None}, OWN),
    "its claim": ({}, {"job_id": "{id}"}),
    "its claim after its token expired": ({"job_token_expires_at": "2001-01-01"}, {"job_id": "{id}"}),
    "the claim of another job": ({}, {"job_id": str(uuid.UUID(int=7))}),
    "a claim that is no id": ({}, {"job_id": "{id}' or true --"}),
}


@pytest.fixture
def presented(app, client, put):
    """A completed job, somebody without a token, and the headers with a credential: `presented(name)`."""

    def make(credential):
        columns, sent = CREDENTIALS[credential]
        job = put("completed", **columns)
        claims = {name: value.replace("{id}", job.id) for name, value in sent.items() if name == "job_id"}
        return job, Writer(app, client, token=None), bearer(app, **claims) if claims else sent

    return make


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_a_note_is_taken_from_whoever_the_policy_shows_the_row(credential, app, presented):
    job, somebody, headers = presented(credential)
    before, opens = app.row(job.id), somebody.sees(job, **headers)
    assert somebody.note(job, NOTE, **headers) is opens
    assert (app.row(job.id) != before) is opens


def test_the_policy_shows_the_row_to_some_of_them(presented):
    """The control of the test above."""
    assert {name for name in CREDENTIALS for job, by, sent in [presented(name)] if by.sees(job, **sent)} == {
        "its token",
        "a token that will expire",
        "its claim",
        "its claim after its token expired",
    }


@pytest.mark.parametrize("who", ["the owner", "a user with a claim"])
def test_a_signed_in_user_adds_no_note(who, app, client, put, owner):
    job = put("completed")
    before = app.row(job.id)
    user = owner if who == "the owner" else Writer(app, client, token=None)
    claim = {} if who == "the owner" else bearer(app, "authenticated", sub=str(uuid.uuid4()), job_id=job.id)
    assert user.note(job, NOTE, **claim) == "42501"
    assert app.row(job.id) == before


def test_columns_of_an_app_that_are_named_like_ours_are_no_obstacle(cluster, client):
    with Platform(cluster) as other:
        other.sql("alter table local_training_jobs add job text, add note text, add held text")
        job = other.add_job(status="completed", progress=100, token=TOKEN)
        assert Writer(other, client).note(job, NOTE) is True
        row = other.row(job.id)
        assert (row["result_note"], row["job"], row["note"], row["held"]) == (NOTE, None, None, None)


@pytest.mark.parametrize("other", [NOTE, "Stop it by hand."], ids=["the same", "another"])
def test_of_two_that_add_a_note_at_once_none_is_lost_and_none_is_there_twice(other, app, put, pod):
    job = put("completed")
    with session_of(app, "anon") as first, ThreadPoolExecutor(1) as threads:
        first.execute("select public.note_on_job(%s, %s)", [job.id, NOTE])
        second = threads.submit(pod.note, job, other)
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = %s"
        while not app.sql(waiting, app.database):
            assert not second.done()
        first.commit()
        assert second.result() is True
    assert app.row(job.id)["result_note"].splitlines() == ["no HF_TOKEN", *dict.fromkeys([NOTE, other])]
