"""A pod that nobody may stop: whoever looks at the job's row reads there that it goes on costing money."""

from __future__ import annotations

import os
import sys

import pytest
from structlog.testing import capture_logs

from agent.config import load
from agent.entrypoint import Entrypoint, leave_after_finalize
from agent.errors import AgentError
from agent.pod.rungs import Apis
from agent.sandbox.loopback import Fault
from agent.sandbox.runpod import RunPodApi
from tests.conftest import FIXTURES, ROOT

POD, KEY = "pod1x2y3z", "rpa_key_of_the_pod_123456"
TRAIN = [sys.executable, str(ROOT / "tests" / "trainer.py")]
MODEL = f"save={FIXTURES / 'sft_lora'}"
SHOUTED = "Nothing could stop this pod, and it goes on costing money"
JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
RPC = "/rest/v1/rpc/note_on_job"
NOT_SAID = "the job row does not say so"


@pytest.fixture
def runpod(monkeypatch):
    """A RunPod whose key may look at the pod and not end it."""
    with RunPodApi() as fake:
        fake.add_pod(POD)
        fake.add_key(KEY, "read")
        at = fake.endpoint
        monkeypatch.setattr("agent.pod.runpod.APIS", Apis(f"{at}/v2", f"{at}/graphql", f"{at}/v1"))
        monkeypatch.setenv("PATH", "/nonexistent")  # no runpodctl of this machine
        yield fake
        assert fake.catastrophes == []
        assert fake.pods[POD].stops == fake.pods[POD].terminates == 0


class Left:
    """A job in a pod that is left as soon as it is over."""

    def __init__(self, pod, tmp_path, of_the_row):
        self.pod, self.folder, self.diary = pod, tmp_path / "out", tmp_path / "diary"
        self.environ = of_the_row | {
            "RUNPOD_POD_ID": POD, "RUNPOD_API_KEY": KEY, "AGENT_ON_FINISH": "stop",
            "AGENT_STOP_AFTER_S": "0", "AGENT_GIVE_UP_S": "1", "AGENT_STALL_S": "1",
        }  # fmt: skip

    def run(self, *deeds):
        """As `python -m agent run` does it."""
        environ = {"PATH": os.environ["PATH"]} | self.pod.environ(self.folder, **self.environ)
        with (self.folder.parent / "printed").open("ab") as out:
            story = Entrypoint([*TRAIN, str(self.diary), *deeds], environ=environ, stdout=out.fileno())
            try:
                story.tell(load(environ), story.outcome)
            except AgentError as error:
                story.leave(error.exit_code)
            else:
                story.leave(0)
        return story.outcome

    def finalize(self):
        """As `python -m agent finalize` does it."""
        outcome = self.pod.finalize(self.folder, **self.environ)
        leave_after_finalize(load(self.pod.environ(self.folder, **self.environ)), outcome, 0)
        return outcome


@pytest.fixture
def job(app):
    return app.add_job(status="pending")


@pytest.fixture
def left(app, job, pod, tmp_path, runpod):
    return Left(pod, tmp_path, app.environ(job))


@pytest.fixture
def restarted(monkeypatch):
    """Start the container again, as RunPod does once it ended: `restarted()`."""
    return lambda: monkeypatch.setattr("agent.run.container_life", lambda: "of the next container")


def assert_said_once(row, model_url):
    assert (row["status"], row["progress"], row["model_url"]) == ("completed", 100, model_url)
    [sentence] = row["result_note"].splitlines()
    assert sentence.startswith(SHOUTED)
    assert sentence.count("stop it by hand") == 1
    assert KEY not in sentence


def test_a_completed_job_whose_pod_nobody_may_stop_says_so_once(left, app, job, runpod, restarted):
    outcome = left.run(MODEL)
    assert runpod.requests
    row = app.row(job.id)
    assert_said_once(row, outcome.model_url)
    restarted()
    assert left.run(MODEL).result == "completed"
    assert app.row(job.id) == row


def test_a_finalize_that_is_run_again_says_it_once(left, app, job, runpod, trained):
    left.folder = trained("sft_lora")
    url = left.finalize().model_url
    row, asked = app.row(job.id), len(runpod.requests)
    assert_said_once(row, url)
    assert left.finalize().model_url == url
    assert len(runpod.requests) > asked
    assert app.row(job.id) == row


def test_without_a_key_the_row_says_it_too(left, app, job, runpod, trained):
    left.folder = trained("sft_lora")
    left.environ["RUNPOD_API_KEY"] = ""
    url = left.finalize().model_url
    row = app.row(job.id)
    assert (row["status"], row["model_url"]) == ("completed", url)
    assert "it goes on costing money: there is no RUNPOD_API_KEY" in row["result_note"]
    assert runpod.requests == []


def test_a_failed_training_whose_pod_nobody_may_stop_says_it_too(left, app, job):
    left.run("exit=3")
    row = app.row(job.id)
    assert (row["status"], row["failure_stage"], row["model_url"]) == ("failed", "training", None)
    assert "exit code 3" in row["error_message"]
    assert row["result_note"].startswith(SHOUTED)


def test_a_row_in_a_file_says_it_too(pod, tmp_path, runpod, restarted):
    left = Left(pod, tmp_path, {"JOB_ID": JOB})
    url = left.run(MODEL).model_url
    row = pod.row(JOB)
    assert_said_once(row, url)
    restarted()
    left.run(MODEL)
    assert pod.row(JOB) == row


def test_a_lost_answer_is_no_second_sentence(left, app, job, trained):
    left.folder = trained("sft_lora")
    lost = app.rest.faults.add(Fault("lost", match=f"POST {RPC}", nth=0))
    left.environ["AGENT_STALL_S"] = "60"
    url = left.finalize().model_url
    assert lost.fired == 1
    assert_said_once(app.row(job.id), url)


def no_function(app):
    app.sql("drop function note_on_job(uuid, text)")
    app.rest.refresh()


def no_right(app):
    app.sql("revoke execute on function note_on_job(uuid, text) from anon")


def no_answer(app):
    app.rest.faults.add(Fault("reset", match=f"POST {RPC}"))


@pytest.mark.parametrize("spoil", [no_function, no_right, no_answer])
def test_a_row_that_cannot_say_it_is_told_of_in_the_log_and_nothing_else_suffers(
    spoil, left, app, job, runpod, trained
):
    left.folder = trained("sft_lora")
    spoil(app)
    with capture_logs() as logs:
        url = left.finalize().model_url
    row = app.row(job.id)
    assert (row["status"], row["model_url"], row["result_note"]) == ("completed", url, None)
    [said] = [log for log in logs if log["event"] == NOT_SAID]
    assert said["sentence"].startswith(SHOUTED)
    assert said["because"]
    assert [log["event"] for log in logs if log["log_level"] == "error"] == [said["sentence"]]
    assert runpod.requests


def test_a_legacy_table_is_left_as_it_is(legacy_app, pod, tmp_path, runpod, trained):
    job = legacy_app.add_job(status="pending")
    left = Left(pod, tmp_path, legacy_app.environ(job))
    left.folder = trained("sft_lora")
    with capture_logs() as logs:
        url = left.finalize().model_url
    row = legacy_app.row(job.id)
    assert (row["status"], row["model_url"], row["error_message"]) == ("completed", url, None)
    assert NOT_SAID in [log["event"] for log in logs]
