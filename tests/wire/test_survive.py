"""What a run could not finish or tell, the next one does; nothing on the volume is needed for the truth."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import time

import pytest
from structlog.testing import capture_logs

from agent.durable import read_trail
from agent.journal import Journal, Lock
from agent.sandbox.loopback import Fault
from tests.wire.test_job_row import TABLE, assert_true, told


def journal_of(pod, job):
    return json.loads((pod.state_dir / job.id / "journal.json").read_text())


def events_of(pod, job):
    return [entry["event"] for entry in read_trail(pod.state_dir / job.id / "audit.jsonl")]


@pytest.fixture
def undelivered(app, pod, hub, trained):
    """A job whose model is published and whose row could not be told, because its database went down."""
    job, folder = app.add_job(), trained("sft_lora")
    down = app.rest.faults.add(Fault("reset", match=TABLE, nth=set(range(2, 10_000))))
    code, answer = told(pod, folder, **app.environ(job))
    assert down.fired
    assert (code, answer["published"], app.row(job.id)["status"]) == (76, True, "running")
    assert journal_of(pod, job)["outbox"]["letter"]["model_url"] == answer["model_url"]
    app.rest.faults.clear()
    hub.requests.clear()
    app.rest.requests.clear()
    return job, folder


def test_what_the_row_was_not_told_is_told_first_by_the_next_run(undelivered, app, pod, hub):
    job, folder = undelivered
    hub.faults.add(Fault("status", match=".", status=503))  # the next run gets no further than this
    code, answer = told(pod, folder, **app.environ(job))
    row = app.row(job.id)
    assert (code, row["status"], row["model_url"]) == (75, "completed", f"{hub.endpoint}/ada/model")
    assert answer["job"]["status"] == "completed"
    assert "outbox" not in journal_of(pod, job)
    hub.faults.clear()
    code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


def test_what_the_row_was_not_told_is_told_even_when_the_folder_is_gone(undelivered, app, pod, hub):
    job, folder = undelivered
    shutil.rmtree(folder)
    code, answer = told(pod, folder, **app.environ(job))
    assert (code, answer["job"]["status"]) == (11, "completed")
    assert app.row(job.id)["status"] == "completed"


def test_a_cancel_meanwhile_has_the_last_word(undelivered, app, pod, hub):
    job, folder = undelivered
    assert app.cancel(job.id)
    code, answer = told(pod, folder, **app.environ(job))
    row = app.row(job.id)
    assert (code, answer["result"], row["status"], row["model_url"]) == (15, "cancelled", "cancelled", None)
    assert "outbox" not in journal_of(pod, job)


def test_another_finalizer_s_completed_is_not_touched(undelivered, app, pod, hub, tmp_path):
    """Another machine, without this volume, finishes the job first."""
    job, folder = undelivered
    pod.state_dir, here = tmp_path / "elsewhere", pod.state_dir
    assert told(pod, folder, **app.environ(job))[0] == 0
    before = app.row(job.id)
    pod.state_dir = here
    code, answer = told(pod, folder, **app.environ(job))
    assert assert_true(app, job, hub, code, answer) == before
    assert len(app.sql("select 1 from model_upload_events where to_status = 'completed'")) == 1


def test_a_database_that_is_still_down_costs_nothing_but_another_76(undelivered, app, pod, hub):
    job, folder = undelivered
    app.rest.faults.add(Fault("reset", match=TABLE))
    code, answer = told(pod, folder, **app.environ(job))
    assert (code, answer["published"]) == (76, True)
    assert journal_of(pod, job)["outbox"]
    app.rest.faults.clear()
    code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


def test_a_failure_the_row_was_not_told_is_told_by_the_next_run(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    refused = hub.faults.add(Fault("status", match="/commit/", status=403))
    app.rest.faults.add(Fault("reset", match="PATCH", nth=set(range(1, 10_000))))
    code, answer = told(pod, folder, **app.environ(job))
    assert (refused.fired, code, answer["job"]["status"]) == (1, 12, None)
    assert journal_of(pod, job)["outbox"]["letter"]["kind"] == "fail"
    app.rest.faults.clear()
    shutil.rmtree(folder)
    code, _ = told(pod, folder, **app.environ(job))
    row = app.row(job.id)
    assert (code, row["status"]) == (11, "failed")
    assert events_of(pod, job).count("recorded") == 2


def test_the_journal_is_read_only_when_the_other_finalizer_has_ended(undelivered, app, pod, hub, monkeypatch):
    """While this one waited for the lock, the other one told the row itself."""
    job, folder = undelivered
    enter = Lock.__enter__

    def waited(self):
        Journal(pod.state_dir / job.id).post(None)
        return enter(self)

    monkeypatch.setattr(Lock, "__enter__", waited)
    with capture_logs() as said:
        code, answer = told(pod, folder, **app.environ(job))
    assert "told the job row what happened before" not in str(said)
    assert_true(app, job, hub, code, answer)
    assert code == 0


@pytest.mark.parametrize("tenth", range(10))
def test_a_journal_cut_anywhere_changes_nothing_about_the_end(tenth, undelivered, app, pod, hub):
    job, folder = undelivered
    path = pod.state_dir / job.id / "journal.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    (pod.state_dir / "hashes.json").write_bytes(b'{"x": ')
    code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0
    assert len(hub.repo("ada/model").commits("main")) == 2


def test_the_trail_tells_what_happened(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    told(pod, folder, **app.environ(job))
    first = ["started", "repo_created", "content_uploaded", "committed", "verified", "recorded"]
    assert events_of(pod, job) == first
    told(pod, folder, **app.environ(job))
    assert events_of(pod, job) == [*first, "started"]


@pytest.mark.parametrize("status", ["pending", "running"])
def test_while_the_hub_is_down_the_row_is_running_and_warm_not_failed(status, app, pod, hub, trained):
    job, folder = app.add_job(status=status), trained("sft_lora")
    down = hub.faults.add(Fault("status", match=".", status=503))
    code, answer = told(pod, folder, **app.environ(job))
    row = assert_true(app, job, hub, code, answer)
    assert down.fired > 5
    assert (code, answer["result"], row["status"], row["error_message"]) == (75, "pending", "running", None)
    assert row["heartbeat_at"]
    hub.faults.clear()
    code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0


def _no_file_may_grow():
    """As on a full disk, no write to a file succeeds; pipes and sockets work."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _finalize(pod, folder, *, preexec_fn=None, **environ):
    process = pod.command(folder, preexec_fn=preexec_fn, **environ)
    out, err = process.communicate(timeout=60)
    return process.returncode, json.loads(out), err


@pytest.mark.parametrize("obstacle", ["full", "read-only", "small"])
def test_a_state_folder_that_takes_nothing_stops_nothing(obstacle, app, pod, hub, trained, tmp_path):
    job, folder = app.add_job(), trained("sft_lora")
    environ = app.environ(job)
    if obstacle == "read-only":
        environ["AGENT_STATE_DIR"] = "/proc/agent"
    if obstacle == "small":
        small = tmp_path / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", small], check=False).returncode:
            pytest.skip("this machine lets nobody mount")
        environ["AGENT_STATE_DIR"] = str(small)
    try:
        full = _no_file_may_grow if obstacle == "full" else None
        code, answer, err = _finalize(pod, folder, preexec_fn=full, **environ)
    finally:
        if obstacle == "small":
            subprocess.run(["umount", small], check=True)
    assert_true(app, job, hub, code, answer)
    assert code == 0, err
    assert "the journal cannot be written" in err


@pytest.mark.parametrize("database", ["answers", "hangs"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_note_in_the_row_and_ends_in_time(signum, code, database, app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_full")
    arrived = hub.faults.add(Fault("hang", match="POST /v1/xorbs"))
    process = pod.command(folder, **app.environ(job))
    while not arrived.fired:
        assert process.poll() is None
    silent = app.rest.faults.add(Fault("hang", match=TABLE)) if database == "hangs" else None
    begun = time.monotonic()
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 10, "a call that waits for its answer would take fifteen seconds"
    answer = json.loads(out)
    row = assert_true(app, job, hub, process.returncode, answer)
    assert (process.returncode, answer["result"], row["status"]) == (code, "pending", "running"), err
    assert events_of(pod, job)[-1] == "interrupted"
    if silent:
        assert silent.fired
    else:
        assert row["result_note"].endswith("run finalize again, it continues where it stopped")
    hub.faults.clear()
    app.rest.faults.clear()
    code, answer = told(pod, folder, **app.environ(job))
    assert assert_true(app, job, hub, code, answer)["result_note"] is None
    assert code == 0


def test_a_second_signal_ends_at_once(app, pod, hub, trained):
    job = app.add_job()
    arrived = hub.faults.add(Fault("hang", match="POST /v1/xorbs"))
    process = pod.command(trained("sft_full"), **app.environ(job))
    while not arrived.fired:
        assert process.poll() is None
    hangs = app.rest.faults.add(Fault("hang", match=f"PATCH {TABLE}"))
    process.send_signal(signal.SIGTERM)
    while not hangs.fired:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    "fault", [Fault("hang", match="PUT /lfs"), Fault("status", match="PUT /lfs", status=503)]
)
def test_plain_lfs_gives_up_when_patience_ends_not_when_its_library_does(fault, app, pod, hub, trained):
    """The library asks five times on its own, and would wait two minutes for each answer."""
    job, folder = app.add_job(), trained("sft_full")
    more = {"HF_HUB_DISABLE_XET": "1", "AGENT_STALL_S": "1"}
    hub.faults.add(fault)
    begun = time.monotonic()
    code, answer, err = _finalize(pod, folder, **app.environ(job), **more)
    assert fault.fired
    assert (code, answer["result"]) == (75, "pending"), err
    assert time.monotonic() - begun < 20
    assert assert_true(app, job, hub, code, answer)["status"] == "running"
    hub.faults.clear()
    code, answer, _ = _finalize(pod, folder, **app.environ(job), HF_HUB_DISABLE_XET="1")
    assert_true(app, job, hub, code, answer)
    assert code == 0


def test_a_hub_that_lost_everything_gets_everything_again(app, pod, hub, trained):
    """The xet cache and the remembered hashes on the volume know content that no server has any more."""
    job, folder = app.add_job(), trained("sft_full")
    code, first, _ = _finalize(pod, folder, **app.environ(job))
    assert code == 0
    assert list((pod.state_dir / "xet").rglob("*"))
    hub.repos.clear()
    hub.forget_content()
    code, answer, err = _finalize(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 0, err
    assert answer["uploaded_bytes"] >= first["uploaded_bytes"]
    assert hub.read("ada/model", "model.safetensors") == (folder / "model.safetensors").read_bytes()
    assert "sending again" in err
