"""The row says what happened, whatever the job database does: exit code, JSON and row never disagree."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import contextmanager
from functools import partial

import pytest
from structlog.testing import capture_logs

from agent import finalize as story
from agent import migrations
from agent.errors import AgentError, Interrupted
from agent.jobs import heartbeat
from agent.jobs.connection import Connection
from agent.jobs.shape import HARDENED
from agent.jobs.supabase import SupabaseStore
from agent.outcome import Outcome
from agent.sandbox.loopback import Fault
from agent.sandbox.rest import Rest, misfortunes

TABLE = "/rest/v1/local_training_jobs"
INTERRUPTED = "stopped by SIGTERM; run finalize again, it continues where it stopped"


def told(pod, folder, **environ):
    """Run finalize and return what its caller is told: the exit code and the JSON object."""
    outcome, code = Outcome(), 0
    try:
        pod.finalize(folder, outcome, **environ)
    except AgentError as error:
        code = error.exit_code
        outcome.failed(error, code=error.code, message=error.message, hint=error.hint)
    return code, outcome.as_json()


def assert_true(app, job, hub, code, answer):
    """Compare what was said with what is: the row in the database, the commits on the Hub."""
    row = app.row(job.id)
    commits = hub.repo("ada/model").commits("main") if "ada/model" in hub.repos else []
    published = any(f"Job-Id: {job.id}" in commit.message for commit in commits)
    assert answer["published"] == published
    assert answer["job"]["id"] == job.id
    if answer["job"]["status"] is not None:
        assert answer["job"]["status"] == row["status"]
    assert (code == 0) == (answer["error"] is None)
    if code == 0:
        assert answer["result"] == "completed"
        assert (row["status"], row["progress"], row["model_url"]) == ("completed", 100, answer["model_url"])
        assert row["completed_at"]
        assert answer["model_url"] == f"{hub.endpoint}/ada/model"
    if row["status"] == "completed":
        assert published
        assert answer["result"] in {"completed", "pending"}
    return row


@pytest.fixture(params=["hardened", "legacy"])
def any_app(request):
    return request.getfixturevalue("app" if request.param == "hardened" else "legacy_app")


def test_a_quiet_run_completes_the_row_in_five_requests(any_app, pod, hub, trained):
    job = any_app.add_job(status="pending", progress=None)
    code, answer = told(pod, trained("sft_lora"), **any_app.environ(job))
    row = assert_true(any_app, job, hub, code, answer)
    assert (code, row["error_message"]) == (0, None)
    assert row["started_at"]
    assert len(any_app.rest.requests) <= 5
    assert not (pod.state_dir / job.id / "row.json").exists()


def test_a_second_run_asks_twice_and_changes_nothing(any_app, pod, hub, trained):
    job, folder = any_app.add_job(), trained("sft_lora")
    told(pod, folder, **any_app.environ(job))
    before, since = any_app.row(job.id), len(any_app.rest.requests)
    code, answer = told(pod, folder, **any_app.environ(job))
    assert assert_true(any_app, job, hub, code, answer) == before
    asked = [request for request in any_app.rest.requests[since:] if TABLE in request.path]
    assert {request.method for request in asked} == {"GET"}
    assert len(hub.repo("ada/model").commits("main")) == 2


def test_without_a_hub_token_the_row_says_so(app, pod, hub, trained):
    job = app.add_job()
    code, answer = told(pod, trained("sft_lora"), HF_TOKEN="", **app.environ(job))
    row = app.row(job.id)
    assert (code, answer["result"], answer["job"]["status"]) == (0, "skipped", "completed")
    assert (row["status"], row["progress"], row["model_url"]) == ("completed", 100, None)
    assert "HF_TOKEN was not set" in row["result_note"]


def test_a_cancelled_job_is_not_published(any_app, pod, hub, trained):
    job = any_app.add_job(status="cancelled")
    before = any_app.row(job.id)
    code, answer = told(pod, trained("sft_lora"), **any_app.environ(job))
    assert (code, answer["result"], answer["published"]) == (15, "cancelled", False)
    assert assert_true(any_app, job, hub, code, answer) == before
    assert {request.method for request in hub.requests} <= {"GET"}  # it is looked at beside the row


def test_a_failed_training_is_not_published(app, pod, hub, trained):
    job = app.add_job(status="failed", failure_stage="training", error_message="CUDA out of memory")
    before = app.row(job.id)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert (code, answer["result"]) == (15, "failed")
    assert "CUDA out of memory" in answer["error"]["message"]
    assert assert_true(app, job, hub, code, answer) == before
    assert {request.method for request in hub.requests} <= {"GET"}  # it is looked at beside the row


def test_a_failure_nobody_explains_does_not_lose_the_model(any_app, pod, hub, trained):
    """An app marks silent jobs as failed without a stage: the model is saved, the row is left to people."""
    job = any_app.add_job(status="failed", error_message="no updates for 600 s")
    before = any_app.row(job.id)
    code, answer = told(pod, trained("sft_lora"), **any_app.environ(job))
    assert (code, answer["published"], answer["result"]) == (15, True, "failed")
    assert assert_true(any_app, job, hub, code, answer) == before


def test_a_failed_publication_is_told_and_mended_by_the_next_run(any_app, pod, hub, trained):
    job, folder = any_app.add_job(progress=97.0), trained("sft_lora")
    refused = hub.faults.add(Fault("status", match="POST /api/models/ada/model/commit", status=403))
    code, answer = told(pod, folder, **any_app.environ(job))
    row = assert_true(any_app, job, hub, code, answer)
    assert (refused.fired, code, row["status"], row["progress"]) == (1, 12, "failed", 97)
    assert f"{answer['error']['code']}: " in row["error_message"]
    assert f"Training succeeded; the model is in {folder}" in row["error_message"]
    assert row.get("failure_stage", "publish") == "publish"
    hub.faults.clear()
    code, answer = told(pod, folder, **any_app.environ(job))
    assert assert_true(any_app, job, hub, code, answer)["error_message"] is None
    assert code == 0


def test_a_folder_without_a_model_is_told_without_claiming_more(app, pod, hub, tmp_path):
    job = app.add_job()
    (tmp_path / "empty").mkdir()
    code, answer = told(pod, tmp_path / "empty", **app.environ(job))
    row = assert_true(app, job, hub, code, answer)
    assert (code, row["status"], row["failure_stage"]) == (11, "failed", "publish")
    assert row["error_message"].startswith("artifact: ")
    assert "succeeded" not in row["error_message"]


def test_a_bug_leaves_no_row_that_goes_on_running(app, pod, hub, trained, monkeypatch):
    job = app.add_job()
    monkeypatch.setattr(story.publication, "make", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pod.finalize(trained("sft_lora"), **app.environ(job))
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"]) == ("failed", "publish")
    assert row["error_message"].startswith("bug: ZeroDivisionError")


def test_a_trigger_that_changes_what_was_written_is_not_believed(any_app, pod, hub, trained):
    """Another program's trigger eats the reason of a failure: that is an error, not a recorded failure."""
    job = any_app.add_job()
    any_app.sql(
        "create function eat() returns trigger language plpgsql as "
        "$$ begin new.error_message := 'nothing to see'; return new; end $$"
    )
    any_app.sql(
        "create trigger zz_eat before update on local_training_jobs for each row"
        " when (new.status = 'failed') execute function eat()"
    )
    hub.faults.add(Fault("status", match="/commit/", status=403))
    with capture_logs() as said:
        code, answer = told(pod, trained("sft_lora"), **any_app.environ(job))
    assert (code, answer["job"]["status"]) == (12, None)
    assert "reads back differently" in str(said)


def test_a_row_that_changes_right_after_it_was_written_is_not_called_done(
    legacy_app, pod, hub, trained, monkeypatch
):
    """A late metrics report puts the progress back, as nothing in such a table forbids."""
    job, update = legacy_app.add_job(), Connection.update

    def put_back(self, changes, *args, **kwargs):
        found = update(self, changes, *args, **kwargs)
        if changes["status"] == "completed":
            legacy_app.change(job.id, progress=42.0)
        return found

    monkeypatch.setattr(Connection, "update", put_back)
    code, answer = told(pod, trained("sft_lora"), **legacy_app.environ(job))
    assert (code, answer["published"], answer["job"]["status"]) == (15, True, "completed")
    assert "reads back differently than it was written: progress is 42.0" in answer["error"]["message"]


def test_an_address_that_no_update_can_add_is_told_as_such(app, pod, hub, trained):
    job = app.add_job(status="completed", progress=100, completed_at="2026-01-01T00:00:00Z")
    app.sql("drop policy agent_update on local_training_jobs")
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert (code, answer["published"], answer["job"]["status"]) == (15, True, "completed")
    assert "can be seen but not changed" in answer["error"]["message"]
    assert app.row(job.id)["model_url"] is None


def wrong_id(app, job):
    return {"JOB_ID": "00000000-0000-4000-8000-000000000000"}


def wrong_token(app, job):
    return {"JOB_TOKEN": "w" * 43}


def no_token(app, job):
    return {"JOB_TOKEN": ""}


def short_token(app, job):
    return {"JOB_TOKEN": "short"}


def expired_token(app, job):
    app.change(job.id, job_token_expires_at="2026-01-01T00:00:00Z")
    return {}


def no_right_to_a_column(app, job):
    app.sql("revoke update (model_url) on local_training_jobs from anon")
    return {}


def no_right_to_read_a_column(app, job):
    app.sql("revoke select (model_url) on local_training_jobs from anon")
    return {}


def no_update_policy(app, job):
    app.sql("drop policy agent_update on local_training_jobs")
    return {}


def unknown_table(app, job):
    return {"JOBS_TABLE": "no_such_jobs"}


def unknown_column(app, job):
    app.sql("alter table local_training_jobs rename column model_url to address")
    app.rest.refresh()
    return {}


def unknown_key(app, job):
    return {"SUPABASE_ANON_KEY": "sb_publishable_of_another_project"}


def wrong_hub(app, job):
    app.sql("delete from private.model_hosts")
    return {}


def no_supabase_there(app, job):
    app.rest.faults.add(Fault("status", match=TABLE, status=404, body="<html>Not here</html>"))
    return {}


def paused(app, job):
    app.rest.faults.add(misfortunes.paused_project(match=TABLE))
    return {}


def redirect_302(app, job):
    app.rest.faults.add(misfortunes.redirect(302, f"{app.url}/elsewhere", match=TABLE))
    return {}


def redirect_308(app, job):
    app.rest.faults.add(misfortunes.redirect(308, f"{app.url}/elsewhere", match=TABLE))
    return {}


REFUSALS = {
    wrong_id: "JOB_ID or JOB_TOKEN is wrong",
    wrong_token: "JOB_ID or JOB_TOKEN is wrong",
    no_token: "JOB_TOKEN is not set",
    short_token: "JOB_ID or JOB_TOKEN is wrong",
    expired_token: "or the token expired",
    no_right_to_a_column: "permission denied",
    no_right_to_read_a_column: "permission denied",
    no_update_policy: "can be seen but not changed",
    unknown_table: "PGRST205",
    unknown_column: "42703",
    unknown_key: "Invalid API key",
    wrong_hub: "not on an allowed Hub",
    no_supabase_there: "404",
    paused: "Project paused",
    redirect_302: "redirects to",
    redirect_308: "redirects to",
}


@pytest.mark.parametrize("obstacle", REFUSALS, ids=lambda obstacle: obstacle.__name__)
def test_a_row_that_says_no_leaves_a_published_model_and_exit_15(obstacle, app, pod, hub, trained):
    job = app.add_job(progress=50.0)
    environ = app.environ(job) | obstacle(app, job)
    before = app.row(job.id)
    code, answer = told(pod, trained("sft_lora"), **environ)
    assert (code, answer["result"], answer["published"]) == (15, "failed", True)
    assert REFUSALS[obstacle] in answer["error"]["message"] + " " + answer["error"]["hint"]
    assert answer["error"]["hint"]
    assert hub.repo("ada/model").commits("main")[0].message.count("Finalize-Id: ") == 1
    after = app.row(job.id)
    assert after["status"] != "completed"
    if answer["job"]["status"] is None:
        assert after == before
    else:
        assert_true(app, job, hub, code, answer)
    app.rest.faults.clear()


def test_an_expired_jwt_as_the_key_is_named_as_such(app, cluster, pod, hub, trained):
    """Where no gateway checks the keys, PostgREST itself answers."""
    job = app.add_job()
    with Rest(cluster.dsn(app.database, "authenticator"), gateway=False) as bare:
        key = bare.jwt(role="anon", exp=1)
        environ = app.environ(job) | {"SUPABASE_URL": bare.endpoint, "SUPABASE_ANON_KEY": key}
        code, answer = told(pod, trained("sft_lora"), **environ)
        assert (code, answer["published"], answer["job"]["status"]) == (15, True, None)
        assert "PGRST303" in answer["error"]["message"]
        environ["SUPABASE_ANON_KEY"] = bare.jwt(role="anon")
        code, answer = told(pod, trained("sft_lora", "again"), **environ)
    assert assert_true(app, job, hub, code, answer)["status"] == "completed"


def test_on_a_legacy_table_the_token_is_compared_before_anything_is_written(legacy_app, pod, hub, trained):
    job = legacy_app.add_job()
    before = legacy_app.row(job.id)
    code, answer = told(pod, trained("sft_lora"), **legacy_app.environ(job) | wrong_token(legacy_app, job))
    assert (code, answer["published"], answer["job"]["status"]) == (15, True, None)
    assert legacy_app.row(job.id) == before


def test_a_service_key_is_used_with_a_warning_and_obeys_the_same_rules(app, pod, hub, trained):
    job = app.add_job()
    environ = app.environ(job) | {"SUPABASE_ANON_KEY": "", "SUPABASE_SERVICE_ROLE_KEY": app.rest.service_key}
    code, answer = told(pod, trained("sft_lora"), **environ)
    assert assert_true(app, job, hub, code, answer)["status"] == "completed"
    other = app.add_job(status="cancelled")
    environ = app.environ(other) | {"SUPABASE_ANON_KEY": app.rest.secret_key}
    code, answer = told(pod, trained("sft_lora", "again"), **environ)
    assert (code, answer["result"]) == (15, "cancelled")
    assert app.row(other.id)["status"] == "cancelled"


@pytest.mark.parametrize(
    "bad",
    [
        {"SUPABASE_URL": "https://xxxxxxxxxxxxx.supabase.co"},
        {"SUPABASE_ANON_KEY": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.xxxxxxxxxxxxx.xxxxxxxxxxxxx"},
        {"SUPABASE_URL": "https://abcdefghijkl.supabase.co/rest/v1"},
    ],
    ids=["placeholder URL", "placeholder key", "/rest/v1"],
)
def test_a_database_nobody_set_up_is_refused_before_anything_happens(bad, app, pod, hub, trained):
    job = app.add_job()
    before = app.row(job.id)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job) | bad)
    assert (code, answer["error"]["code"], answer["published"]) == (10, "config", False)
    assert next(iter(bad)) in answer["error"]["message"]
    assert app.row(job.id) == before
    assert (hub.requests, app.rest.requests) == ([], [])


ANOTHER = dict.fromkeys(HARDENED.columns) | {
    "id": "00000000-0000-4000-8000-000000000000",
    "status": "running",
}
TRANSIENT = {
    "503 at once": misfortunes.schema_reload,
    "429": partial(misfortunes.rate_limited, 7),
    "502 with HTML": misfortunes.html_502,
    "504": partial(Fault, "status", status=504, body=""),
    "200 with HTML": misfortunes.html_200,
    "200 with an object": partial(Fault, "status", status=200, body="{}"),
    "200 with a list": partial(Fault, "status", status=200, body="[1]"),
    "200 with another row": partial(Fault, "status", status=200, body=json.dumps(ANOTHER)),
    "200 with another list": partial(Fault, "status", status=200, body=json.dumps([ANOTHER])),
    "500 by a lock": partial(Fault, "status", status=500, body='{"code":"55P03","message":"lock timeout"}'),
    "truncated": partial(Fault, "truncated"),
    "reset": partial(Fault, "reset"),
    "lost": partial(Fault, "lost"),
}
CALLS = {"look": "GET", "start": "PATCH", "complete": "PATCH", "read back": "GET"}


@pytest.mark.parametrize("misfortune", TRANSIENT)
@pytest.mark.parametrize("call", CALLS)
def test_one_broken_answer_is_asked_again_and_the_row_completes_once(
    call, misfortune, app, pod, hub, trained
):
    """Whichever answer of the database breaks, also after it acted, the end is the same."""
    job = app.add_job(progress=50.0)
    nth = 1 if call in {"complete", "read back"} else 0
    fault = app.rest.faults.add(TRANSIENT[misfortune](match=f"{CALLS[call]} {TABLE}", nth=nth))
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert fault.fired == 1
    assert_true(app, job, hub, code, answer)
    assert code == 0
    if misfortune == "429":
        assert 7 in pod.clock.slept


@pytest.mark.parametrize("misfortune", TRANSIENT)
def test_a_database_that_never_recovers_means_76_with_the_model_published(misfortune, app, pod, hub, trained):
    job = app.add_job(progress=50.0)
    before = app.row(job.id)
    fault = app.rest.faults.add(TRANSIENT[misfortune](match=TABLE))
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert fault.fired > 4
    assert not [request for request in app.rest.requests if "x-retry-count" in request.headers]
    assert (code, answer["result"], answer["published"]) == (76, "pending", True)
    assert answer["job"] == {"id": job.id, "status": None}
    assert app.row(job.id) == before
    app.rest.faults.clear()
    code, answer = told(pod, trained("sft_lora", "again"), **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


@pytest.mark.parametrize("lost", ["lost", "truncated"])
def test_when_every_answer_to_the_last_word_is_lost_nothing_is_claimed(lost, app, pod, hub, trained):
    """The database completed the row, nobody told us: 76, status unknown, and a rerun finds it done."""
    job = app.add_job()
    fault = app.rest.faults.add(Fault(lost, match=f"PATCH {TABLE}", nth=set(range(1, 1000))))
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert fault.fired > 4
    assert (code, answer["result"], answer["job"]["status"]) == (76, "pending", None)
    assert app.row(job.id)["status"] == "completed"
    app.rest.faults.clear()
    code, answer = told(pod, trained("sft_lora", "again"), **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_signal_during_the_last_word_claims_nothing_that_is_not_so(
    moment, app, pod, hub, trained, monkeypatch
):
    """Whether the update had arrived or not is asked once more; the next run continues."""
    job, update = app.add_job(), Connection.update

    def interrupted(self, changes, *args, **kwargs):
        if changes["status"] == "completed" and moment == "before":
            raise Interrupted(signal.SIGTERM)
        found = update(self, changes, *args, **kwargs)
        if changes["status"] == "completed":
            raise Interrupted(signal.SIGTERM)
        return found

    monkeypatch.setattr(Connection, "update", interrupted)
    outcome = Outcome()
    with pytest.raises(Interrupted):
        pod.finalize(trained("sft_lora"), outcome, **app.environ(job))
    status = {"before": "running", "after": "completed"}[moment]
    assert outcome.as_json()["job"] == {"id": job.id, "status": status}
    assert outcome.published
    row = app.row(job.id)
    assert row["status"] == status
    assert row["result_note"] == {"before": f"{INTERRUPTED}", "after": None}[moment]
    monkeypatch.undo()
    code, answer = told(pod, trained("sft_lora", "again"), **app.environ(job))
    assert assert_true(app, job, hub, code, answer)["result_note"] is None
    assert code == 0


def test_a_lost_answer_to_the_last_word_is_found_by_reading(app, pod, hub, trained):
    job = app.add_job()
    fault = app.rest.faults.add(Fault("lost", match=f"PATCH {TABLE}", nth=1))
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert (fault.fired, code) == (1, 0)
    changes = "select to_status from model_upload_events where job_id = %s and source = 'trigger'"
    assert app.sql(changes, job.id) == [{"to_status": "completed"}]


def test_a_redirect_is_not_followed_with_the_secrets(app, pod, hub, trained):
    """A 302 turns a PATCH into a GET whose answer looks like success: only the last word is redirected."""
    job = app.add_job()
    elsewhere = misfortunes.redirect(302, f"{app.url}/elsewhere", match=f"PATCH {TABLE}", nth=1)
    fault = app.rest.faults.add(elsewhere)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert fault.fired == 1
    assert not [request for request in app.rest.requests if "elsewhere" in request.path]
    assert_true(app, job, hub, code, answer)


def test_a_database_that_is_down_while_the_model_goes_up_delays_nothing(app, pod, hub, trained):
    job = app.add_job()
    fault = app.rest.faults.add(Fault("reset", match=TABLE, nth=set(range(4))))
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert (fault.fired, code) == (4, 0)
    assert_true(app, job, hub, code, answer)


@contextmanager
def timeout_of_anon(app, timeout):
    app.sql(f"alter role anon set statement_timeout = '{timeout}'")
    app.rest.refresh()
    try:
        yield
    finally:
        app.sql("alter role anon set statement_timeout = '3s'")


def test_a_statement_timeout_is_asked_again_until_the_lock_is_gone(app, pod, hub, trained, monkeypatch):
    """Another session holds the row; PostgreSQL itself cancels our update."""
    job = app.add_job()
    holder = app.connect()
    holder.execute("select 1 from local_training_jobs where id = %s for update", [job.id])
    waits = []

    def release(seconds):
        waits.append(seconds)
        holder.close()

    monkeypatch.setattr(pod.clock, "sleep", release)
    with timeout_of_anon(app, "100ms"):
        code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert waits
    assert [request.status for request in app.rest.requests].count(500) == len(waits)
    assert_true(app, job, hub, code, answer)
    assert code == 0


@pytest.mark.parametrize("kind", ["hardened", "legacy", "service key"])
def test_a_cancel_that_races_with_completed_has_one_winner_and_everybody_knows_it(
    kind, request, pod, hub, trained, monkeypatch
):
    app = request.getfixturevalue("legacy_app" if kind == "legacy" else "app")
    folder, update, winners = trained("sft_lora"), Connection.update, []
    start = threading.Barrier(2, timeout=30)

    def together(self, *args, **kwargs):
        start.wait()
        return update(self, *args, **kwargs)

    monkeypatch.setattr(Connection, "update", together)
    for _ in range(34):
        job = app.add_job()
        environ = app.environ(job) | (
            {"SUPABASE_ANON_KEY": app.rest.secret_key} if kind == "service key" else {}
        )
        cancelled = []

        def cancel(job=job, cancelled=cancelled):
            start.wait()
            cancelled.append(app.cancel(job.id))

        canceller = threading.Thread(target=cancel)
        canceller.start()
        code, answer = told(pod, folder, HF_TOKEN="", **environ)
        canceller.join()
        row = app.row(job.id)
        assert answer["job"] == {"id": job.id, "status": row["status"]}
        assert (code, answer["result"], row["status"]) in {
            (0, "skipped", "completed"),
            (15, "cancelled", "cancelled"),
        }
        assert cancelled == [row["status"] == "cancelled"]
        winners.append(row["status"])
    assert len(winners) == 34


def test_a_cancel_after_the_model_went_up_keeps_the_cancel_and_says_both(app, pod, hub, trained, monkeypatch):
    job = app.add_job()
    tree = story.Publisher.verify

    def cancelled_meanwhile(self):
        tree(self)
        assert app.cancel(job.id)

    monkeypatch.setattr(story.Publisher, "verify", cancelled_meanwhile)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    row = assert_true(app, job, hub, code, answer)
    assert (code, answer["result"], answer["published"], row["status"]) == (
        15,
        "cancelled",
        True,
        "cancelled",
    )
    assert row["model_url"] is None


@pytest.fixture
def beats(monkeypatch):
    """Beats without a pause; `beats("cancelled")` waits for one that saw this status, perhaps long ago."""
    seen = {status: threading.Semaphore(0) for status in ("running", "cancelled")}
    beat = SupabaseStore.beat

    def watched(self, *args, **more):
        row = beat(self, *args, **more)
        seen[row.status].release()
        return row

    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.01)
    monkeypatch.setattr(SupabaseStore, "beat", watched)
    return lambda status: seen[status].acquire(timeout=30)


def test_a_running_upload_keeps_the_row_warm(any_app, pod, hub, trained, monkeypatch, beats):
    job, send, times = any_app.add_job(progress=50.0), story.Publisher.send_content, []

    def slowly(self):
        times.append(any_app.row(job.id))
        while any_app.row(job.id) == times[0]:
            assert beats("running")
        times.append(any_app.row(job.id))
        send(self)

    monkeypatch.setattr(story.Publisher, "send_content", slowly)
    code, answer = told(pod, trained("sft_lora"), **any_app.environ(job))
    assert_true(any_app, job, hub, code, answer)
    before, after = times
    assert code == 0
    changed = {name for name in after if after[name] != before[name]}
    assert changed in ({"updated_at", "heartbeat_at"}, {"updated_at"})
    assert threading.active_count() == len([t for t in threading.enumerate() if t.name != "heartbeat"])


def test_a_cancel_during_the_upload_is_noticed_before_anything_is_visible(
    any_app, pod, hub, trained, monkeypatch, beats
):
    job, send = any_app.add_job(), story.Publisher.send_content

    def cancelled_meanwhile(self):
        send(self)
        assert any_app.cancel(job.id)
        assert beats("cancelled")
        assert beats("cancelled")  # when the second one was seen, the first one had been noted

    monkeypatch.setattr(story.Publisher, "send_content", cancelled_meanwhile)
    code, answer = told(pod, trained("sft_lora"), **any_app.environ(job))
    row = assert_true(any_app, job, hub, code, answer)
    assert (code, answer["result"], answer["published"], row["status"]) == (
        15,
        "cancelled",
        False,
        "cancelled",
    )


def test_a_heartbeat_that_is_not_heard_stops_nothing(app, pod, hub, trained, monkeypatch):
    job, send, stumbled = app.add_job(), story.Publisher.send_content, threading.Semaphore(0)
    beat = SupabaseStore.beat

    def watched(self, *args, **more):
        try:
            return beat(self, *args, **more)
        finally:
            stumbled.release()

    def cut_off(self):
        fault = app.rest.faults.add(Fault("reset", match=TABLE))
        while not fault.fired:
            assert stumbled.acquire(timeout=30)
        app.rest.faults.clear()
        send(self)

    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.01)
    monkeypatch.setattr(SupabaseStore, "beat", watched)
    monkeypatch.setattr(story.Publisher, "send_content", cut_off)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


@pytest.mark.parametrize("before", ["send_content", "verify"])
def test_a_table_that_is_migrated_meanwhile_gets_its_row_all_the_same(
    before, legacy_app, pod, hub, trained, monkeypatch
):
    """The platform pushes its migrations while the pod works; what it knew of the table is no longer so."""
    job, step = legacy_app.add_job(), getattr(story.Publisher, before)

    def migrated(self):
        with legacy_app.connect() as owner:
            owner.autocommit = True
            for migration in migrations.load():
                owner.execute(migration.sql.encode())
        legacy_app.allow_hub(hub.endpoint)
        legacy_app.rest.refresh()
        step(self)

    monkeypatch.setattr(story.Publisher, before, migrated)
    code, answer = told(pod, trained("sft_lora"), **legacy_app.environ(job))
    row = assert_true(legacy_app, job, hub, code, answer)
    assert (code, row["status"]) == (0, "completed")
    assert row["heartbeat_at"]
    events = legacy_app.sql("select event from model_upload_events where source = 'agent'")
    assert {"event": "verified"} in events


def test_a_table_that_is_rolled_back_meanwhile_gets_its_row_all_the_same(app, pod, hub, trained, monkeypatch):
    job, verify = app.add_job(), story.Publisher.verify

    def rolled_back(self):
        with app.connect() as owner:
            owner.autocommit = True
            for migration in reversed(migrations.load()):
                owner.execute(migration.rollback.encode())
        app.rest.refresh()
        verify(self)

    monkeypatch.setattr(story.Publisher, "verify", rolled_back)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    row = assert_true(app, job, hub, code, answer)
    assert (code, row["status"]) == (0, "completed")
    assert row["completed_at"]


def test_a_job_that_was_taken_for_lost_is_completed_by_the_pod_that_comes_back(
    app, pod, hub, trained, monkeypatch
):
    """Its database was out of reach for ten minutes; the platform gave it up meanwhile."""
    job, send = app.add_job(), story.Publisher.send_content

    def given_up(self):
        app.change(job.id, updated_at="2026-01-01", heartbeat_at="2026-01-01")
        assert app.sql("select public.mark_stale_jobs('10 minutes')")
        assert app.row(job.id)["failure_stage"] == "lost"
        send(self)

    monkeypatch.setattr(story.Publisher, "send_content", given_up)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    row = assert_true(app, job, hub, code, answer)
    assert (code, row["status"], row["failure_stage"], row["error_message"]) == (0, "completed", None, None)


def test_checks_that_take_long_keep_the_row_warm(app, pod, hub, trained, monkeypatch, beats):
    job, look = app.add_job(), story.inspect
    app.change(job.id, updated_at="2026-01-01")

    def slowly(config, **more):
        assert beats("running")
        assert app.row(job.id)["heartbeat_at"]
        return look(config, **more)

    monkeypatch.setattr(story, "inspect", slowly)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


def test_a_database_that_comes_back_during_the_upload_is_told_that_the_work_goes_on(
    app, pod, hub, trained, monkeypatch, beats
):
    job, send = app.add_job(status="pending"), story.Publisher.send_content
    down = app.rest.faults.add(Fault("reset", match=TABLE))

    def back(self):
        app.rest.faults.clear()
        assert beats("running")
        assert app.row(job.id)["status"] == "running"
        send(self)

    monkeypatch.setattr(story.Publisher, "send_content", back)
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert (code, down.fired > 0) == (0, True)


def test_nan_metrics_do_not_lose_the_report(any_app, pod, hub, trained):
    """A training that ended in NaN still gets its row and its failure report."""
    job, folder = any_app.add_job(progress=50.0), trained("sft_lora")
    state = next(folder.glob("**/trainer_state.json"))
    document = json.loads(state.read_text())
    document["log_history"].append({"step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    state.write_text(json.dumps(document))
    hub.faults.add(
        Fault("status", match="POST /api/models/ada/model/commit", status=403, body="nan \\u0000 " * 3000)
    )
    code, answer = told(pod, folder, **any_app.environ(job))
    row = assert_true(any_app, job, hub, code, answer)
    assert (code, row["status"]) == (12, "failed")
    assert 100 < len(row["error_message"]) <= 8000
    hub.faults.clear()
    code, answer = told(pod, folder, **any_app.environ(job))
    assert_true(any_app, job, hub, code, answer)
    assert code == 0
