"""Every finalize tells its events to the job database, each once, and none can spoil a publication."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from agent import publisher as story
from agent.jobs import heartbeat
from agent.journal import Journal
from agent.sandbox.loopback import Fault
from tests.conftest import TOKEN
from tests.wire.test_job_row import assert_true, told

EVENTS = "/rest/v1/model_upload_events"
PUBLISHED = ["started", "repo_created", "content_uploaded", "committed", "verified", "recorded"]


def trail(app, job):
    query = "select * from model_upload_events where job_id = %s and source = 'agent' order by id"
    return app.sql(query, job.id)


def told_events(app, job):
    return [row["event"] for row in trail(app, job)]


def test_a_publication_tells_what_it_did_in_one_request(app, pod, hub, trained):
    job = app.add_job()
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert code == 0
    rows = {row["event"]: row for row in trail(app, job)}
    assert list(rows) == PUBLISHED
    assert [request.path for request in app.rest.requests].count(EVENTS) == 1
    for event in ("committed", "verified"):
        assert (rows[event]["commit_sha"], rows[event]["repo_id"]) == (answer["commit"], "ada/model")
    assert rows["verified"]["files"] == answer["files"]
    assert rows["content_uploaded"]["bytes"] == answer["uploaded_bytes"]
    assert rows["recorded"]["model_url"] == answer["model_url"]
    assert rows["recorded"]["detail"]["status"] == "completed"
    times = [row["happened_at"] for row in rows.values()]
    assert times == sorted(times)


def test_a_rerun_adds_only_that_it_ran(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    for _ in range(2):
        told(pod, folder, **app.environ(job))
    assert told_events(app, job) == [*PUBLISHED, "started"]


def test_a_rerun_that_lost_its_volume_does_not_tell_the_same_again(app, pod, hub, trained, tmp_path):
    job, folder = app.add_job(), trained("sft_lora")
    told(pod, folder, **app.environ(job))
    told(pod, folder, **app.environ(job), AGENT_STATE_DIR=str(tmp_path / "another"))
    assert told_events(app, job) == [*PUBLISHED, "started"]


@pytest.mark.parametrize("kind", ["lost", "reset", "truncated"])
def test_what_was_not_told_is_told_by_the_next_run_and_nothing_twice(kind, app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    fault = app.rest.faults.add(Fault(kind, match=f"POST {EVENTS}"))
    code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert (fault.fired, code) == (1, 0)
    app.rest.faults.clear()
    told(pod, folder, **app.environ(job))
    assert told_events(app, job) == [*PUBLISHED, "started"]


def test_events_of_a_run_that_died_are_told_by_the_next_one(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    Journal(pod.state_dir / job.id).note("started", output_dir="/workspace/before")
    told(pod, folder, **app.environ(job))
    rows = trail(app, job)
    assert [row["event"] for row in rows] == ["started", *PUBLISHED]
    assert rows[0]["detail"]["output_dir"] == "/workspace/before"


@pytest.mark.parametrize(
    "change",
    [
        "revoke insert on model_upload_events from anon",
        "drop table model_upload_events cascade",
        "alter table model_upload_events add constraint no check (event <> 'verified')",
    ],
)
def test_a_trail_that_takes_nothing_is_a_warning_and_changes_no_result(change, app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    app.sql("drop trigger audit_training_job on local_training_jobs")
    app.sql(change)
    app.rest.refresh()
    with capture_logs() as said:
        code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0
    assert [one["event"] for one in said].count("the audit trail of the job database was not told") == 1


def test_a_trail_that_stops_taking_events_keeps_them_for_later(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    refused = app.rest.faults.add(Fault("status", match=f"POST {EVENTS}", status=403))
    told(pod, folder, **app.environ(job))
    assert (refused.fired, told_events(app, job)) == (1, [])
    app.rest.faults.clear()
    told(pod, folder, **app.environ(job))
    assert told_events(app, job) == [*PUBLISHED, "started"]


def test_a_table_without_a_trail_is_not_asked_for_one(legacy_app, pod, hub, trained):
    job = legacy_app.add_job()
    code, _ = told(pod, trained("sft_lora"), **legacy_app.environ(job))
    assert code == 0
    assert not [request for request in legacy_app.rest.requests if request.path == EVENTS]


def test_without_a_volume_to_write_to_the_database_is_told_all_the_same(app, pod, hub, trained, tmp_path):
    job = app.add_job()
    (tmp_path / "full").write_text("a file where the folder should be")
    told(pod, trained("sft_lora"), **app.environ(job), AGENT_STATE_DIR=str(tmp_path / "full" / "state"))
    assert told_events(app, job) == PUBLISHED


def test_a_failure_tells_why(app, pod, hub, trained):
    job = app.add_job()
    hub.faults.add(Fault("status", match="/commit/", status=403, body="no more quota"))
    code, _ = told(pod, trained("sft_lora"), **app.environ(job))
    rows = trail(app, job)
    assert [row["event"] for row in rows] == [
        "started",
        "repo_created",
        "content_uploaded",
        "failed",
        "recorded",
    ]
    assert code == 12
    assert rows[3]["detail"]["code"] == "hub-auth"
    assert "no more quota" in rows[3]["detail"]["because"]
    assert rows[4]["detail"]["status"] == "failed"


def test_a_model_that_was_not_wanted_tells_why(app, pod, hub, trained):
    job = app.add_job()
    told(pod, trained("sft_lora"), **app.environ(job), AGENT_PUBLISH_IF="train_loss<=0.0001")
    assert told_events(app, job) == ["started", "gate_refused", "recorded"]


def test_a_cancelled_job_gets_no_more_than_the_reason(app, pod, hub, trained):
    job = app.add_job()
    app.cancel(job.id)
    told(pod, trained("sft_lora"), **app.environ(job))
    assert told_events(app, job) == ["started", "failed", "recorded"]


def test_a_heartbeat_tells_what_happened_so_far(app, pod, hub, trained, monkeypatch):
    """A pod that dies in its upload has told that it began."""
    job, send, seen, told_it = app.add_job(), story.Publisher.send_content, [], threading.Event()
    told_before = Journal.told

    def noted(self, entries):
        told_before(self, entries)
        told_it.set()

    def slowly(self):
        assert told_it.wait(30)
        seen.extend(told_events(app, job))
        send(self)

    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.01)
    monkeypatch.setattr(Journal, "told", noted)
    monkeypatch.setattr(story.Publisher, "send_content", slowly)
    code, _ = told(pod, trained("sft_lora"), **app.environ(job))
    assert (code, seen[:1]) == (0, ["started"])
    assert told_events(app, job) == PUBLISHED


def test_no_secret_and_no_endless_text_reaches_the_trail(app, pod, hub, trained):
    job = app.add_job()
    hub.faults.add(Fault("status", match="/commit/", status=403, body=f"{TOKEN} {job.token} " + "x" * 20_000))
    told(pod, trained("sft_lora"), **app.environ(job))
    written = str(trail(app, job))
    assert told_events(app, job)[-2:] == ["failed", "recorded"]
    assert TOKEN not in written
    assert job.token not in written


def test_hundreds_of_events_from_before_are_told_in_turns(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    journal = Journal(pod.state_dir / job.id)
    for _ in range(510):
        journal.note("interrupted", because="x")
    for _ in range(2):
        told(pod, folder, **app.environ(job))
    assert told_events(app, job) == ["interrupted"] * 510 + [*PUBLISHED, "started"]
