"""The platform's alert API, which terminates the pod: told last, and never with the only copy of a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from agent import parting
from agent.durable import write_durably
from agent.entrypoint import leave_after_finalize
from agent.outcome import Outcome
from agent.pod.storage import Storage
from agent.sandbox.loopback import Fault
from agent.sandbox.loopback.answers import json_answer
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.server import LoopbackServer
from tests.conftest import ROOT
from tests.wire.conftest import KEY, POD
from tests.wire.test_parting import ALLOWED, ENDS, HERE, NETWORK, VOLUME, config_of, run_that_ended

INTERNAL = "internal-key-0123456789"
USER, JOB = "9a8b7c6d-0000-4000-8000-000000000001", "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
TYPES = {
    "job_started", "job_completed", "job_failed", "job_cancelled", "gpu_oom", "disk_warning",
    "timeout_warning",
}  # fmt: skip


class AlertApi(LoopbackServer):
    """`POST /api/alerts/trigger` as the web app answers it: it ends the pod of a job that is over."""

    def __init__(self, account):
        super().__init__()
        self._account, self.told, self.seen = account, [], lambda: None
        self.saw = []

    def routes(self, intake):
        async def trigger(request):
            document = await intake.json(request)
            if request.headers.get("X-API-Key") != INTERNAL:
                raise RefusedError(401, "Invalid API key")
            if document.get("type") not in TYPES or not (document.get("job_id") and document.get("user_id")):
                raise RefusedError(400, "Missing required fields: type, job_id, user_id")
            self.told.append(document)
            self.saw.append(self.seen())
            pod = self._account.pods[POD]
            if document["type"] in {"job_completed", "job_failed"} and pod.status != "TERMINATED":
                pod.terminate()
            return json_answer({"success": True})

        return [web.post("/api/alerts/trigger", trigger)]

    def refusal(self, error):
        return json_answer({"error": error.message}, status=error.status, headers=error.headers)

    def kind_of(self, path):
        return "alert"

    def user_of(self, request):
        return None

    def marks(self, request):
        return {}


@pytest.fixture
def alerts(runpod, tmp_path, monkeypatch):
    monkeypatch.setattr(parting, "VOLUME", tmp_path / "nothing")
    runpod.pods[POD].remembered = True  # else its own stop looks for it for half a minute
    with AlertApi(runpod) as api:
        yield api


def environ_of(alerts, **more):
    return {
        "ALERT_API_URL": f"{alerts.endpoint}/api/alerts/trigger", "INTERNAL_API_KEY": INTERNAL,
        "USER_ID": USER, "JOB_ID": JOB, **more,
    }  # fmt: skip


def say(tmp_path, status, **more):
    """Let the job's local row say this."""
    write_durably(tmp_path / "state" / JOB / "row.json", {"id": JOB, "status": status, **more})


# What the row says after each of these ends.
ROWS = {
    "completed": "completed",
    "published, not recorded": "running",
    "published, nobody told": "running",
    "no token": "completed",
    "the gate said no": "completed",
    "folder refused": "failed",
    "no right": "failed",
    "hub refused": "failed",
    "not what was on disk": "failed",
    "hub silent": "running",
    "bug": "failed",
    "cancelled after training": "cancelled",
    "no weights to be found": "failed",
    "training failed, weights left": "failed",
    "training failed, nothing left": "failed",
    "training failed, checkpoint published": "failed",
    "cancelled while training": "cancelled",
    "never trained": "cancelled",
}
TOLD = {
    "completed": "job_completed job_completed job_completed",
    "no token": "- - job_completed",
    "the gate said no": "- - job_completed",
    "training failed, nothing left": "job_failed job_failed job_failed",
    "training failed, checkpoint published": "job_failed job_failed job_failed",
}


@pytest.mark.parametrize("wish", ["", "keep", "stop", "terminate"])
@pytest.mark.parametrize("place", [HERE, VOLUME, NETWORK], ids=lambda place: place.name)
@pytest.mark.parametrize("name", ENDS)
def test_the_platform_is_told_only_what_cannot_cost_a_model(
    name,
    place,
    wish,
    alerts,
    runpod,
    slept,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: place)
    exit_code, result, published, child_exit, weights = ENDS[name]
    say(tmp_path, ROWS[name])
    run = run_that_ended(
        tmp_path, exit_code, result, published, child_exit, **environ_of(alerts, AGENT_ON_FINISH=wish)
    )
    if weights:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "adapter_model.safetensors").write_bytes(b"weights")
    run.leave(exit_code)
    expected = "-" if wish in {"keep", "stop"} else TOLD.get(name, "- - -").split()[place]
    assert [document["type"] for document in alerts.told] == ([] if expected == "-" else [expected])
    if expected == "-" and wish != "keep":
        allowed = ALLOWED[name][wish == "terminate"].split()[place]
        assert runpod.pods[POD].terminates == (allowed == "terminate")
    if expected != "-":
        assert slept[0] == (3600.0 if exit_code == 0 else 120.0)
        assert (runpod.pods[POD].terminates, runpod.pods[POD].stops) == (1, 0)


def test_every_end_has_a_row_in_the_table():
    assert ROWS.keys() == ENDS.keys()
    assert TOLD.keys() <= ENDS.keys()
    assert Storage.CONTAINER == 0


def finished(tmp_path, alerts, exit_code=0, **more):
    outcome = Outcome(result="completed", published=True, repo_id="ada/model")
    leave_after_finalize(config_of(tmp_path, **environ_of(alerts, **more)), outcome, exit_code)


def test_it_hears_who_what_and_how(alerts, runpod, slept, tmp_path):
    say(tmp_path, "completed", progress=100.0)
    with capture_logs() as said:
        finished(tmp_path, alerts, BASE_MODEL="meta-llama/Llama-3.1-8B")
    assert not [one for one in said if "not told" in one["event"]]
    assert alerts.told == [
        {
            "type": "job_completed",
            "job_id": JOB,
            "user_id": USER,
            "model_name": "ada/model",
            "base_model": "meta-llama/Llama-3.1-8B",
            "status": "completed",
            "progress": 100.0,
        }
    ]
    assert slept == []  # a finalize that nobody told to end the pod does not linger
    trail = (tmp_path / "state" / JOB / "audit.jsonl").read_text()
    assert '"asked": "alert"' in trail
    assert INTERNAL not in trail


def test_nobody_waits_for_what_may_not_be_told(alerts, runpod, slept, tmp_path, monkeypatch):
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: VOLUME)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_bytes(b"weights")
    say(tmp_path, "failed")
    outcome = Outcome(result="failed", published=False)
    config = config_of(tmp_path, **environ_of(alerts, AGENT_STOP_AFTER_S="90"))
    with capture_logs() as said:
        leave_after_finalize(config, outcome, 11)
    assert (slept, alerts.told) == ([], [])
    [told] = [one for one in said if one["event"].startswith("ALERT_API_URL is not told")]
    assert "not proven to be on the Hub" in told["because"]


def test_a_last_look_that_was_asked_for_comes_first(alerts, runpod, slept, tmp_path):
    say(tmp_path, "completed")
    finished(tmp_path, alerts, AGENT_STOP_AFTER_S="90")
    assert (slept, len(alerts.told)) == ([90.0], 1)


@pytest.mark.parametrize("row", ["cancelled", "running", "paused"])
def test_a_row_that_says_something_else_is_not_overwritten_by_the_platform(
    row,
    alerts,
    runpod,
    slept,
    tmp_path,
):
    """It would set the status itself, over a cancel too."""
    say(tmp_path, row)
    finished(tmp_path, alerts)
    assert alerts.told == []


def test_a_job_that_was_cancelled_during_the_last_look_is_not_told(
    alerts,
    runpod,
    slept,
    tmp_path,
    monkeypatch,
):
    say(tmp_path, "completed")
    monkeypatch.setattr(parting.time, "sleep", lambda _: say(tmp_path, "cancelled"))
    finished(tmp_path, alerts, AGENT_STOP_AFTER_S="90")
    assert alerts.told == []


def test_what_is_trained_during_the_last_look_counts(
    alerts,
    runpod,
    slept,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: VOLUME)
    say(tmp_path, "failed")

    def train(_):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(parting.time, "sleep", train)
    run_that_ended(tmp_path, 17, "failed", False, 1, **environ_of(alerts)).leave(17)
    assert alerts.told == []


@pytest.mark.parametrize("missing", ["USER_ID", "JOB_ID"])
def test_without_the_ids_that_it_needs_it_is_not_asked(missing, alerts, runpod, slept, tmp_path):
    say(tmp_path, "completed")
    with capture_logs() as said:
        finished(tmp_path, alerts, **{missing: ""})
    assert alerts.requests == []
    assert [one for one in said if "needs JOB_ID and USER_ID" in one["event"]]


def test_below_a_run_and_after_a_signal_it_is_not_told(alerts, runpod, slept, tmp_path):
    say(tmp_path, "completed")
    below = environ_of(alerts, TRAINING_AGENT_REPORTS=str(tmp_path))
    run_that_ended(tmp_path, 0, "completed", True, 0, **below).leave(0)
    finished(tmp_path, alerts, TRAINING_AGENT_REPORTS=str(tmp_path))
    finished(tmp_path, alerts, exit_code=143)
    finished(tmp_path, alerts, RANK="1")
    assert alerts.requests == []


@pytest.mark.parametrize(
    ("fault", "asked", "told"),
    [
        (Fault("status", status=503, times=2), 3, 1),
        (Fault("status", status=503), 3, 0),
        (Fault("reset", times=1), 2, 1),
        (Fault("lost", times=1), 2, 2),
        (Fault("status", status=401), 1, 0),
        (Fault("status", status=302, headers={"Location": "/elsewhere"}), 1, 0),
    ],
)
def test_it_is_asked_again_a_few_times_and_never_changes_the_end(
    fault,
    asked,
    told,
    alerts,
    runpod,
    slept,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr("agent.pod.alert.time.sleep", lambda _: None)
    alerts.faults.add(fault)
    say(tmp_path, "completed")
    finished(tmp_path, alerts)
    assert (fault.fired > 0, len(alerts.requests), len(alerts.told)) == (True, asked, told)


def test_a_run_that_the_platform_left_alive_is_stopped_all_the_same(
    alerts,
    runpod,
    slept,
    tmp_path,
):
    alerts.faults.add(Fault("status", status=401))
    say(tmp_path, "completed")
    run_that_ended(tmp_path, 0, "completed", True, 0, **environ_of(alerts)).leave(0)
    assert (runpod.pods[POD].stops, runpod.pods[POD].terminates) == (1, 0)


def test_a_pod_that_somebody_started_again_is_not_told_of_twice(alerts, runpod, slept, tmp_path):
    say(tmp_path, "completed")
    for _ in range(2):
        run = run_that_ended(tmp_path, 0, "completed", True, 0, **environ_of(alerts))
        if alerts.told:
            run._run.marker.keep(phase="left", left_at=1.0)
        run.leave(0)
    assert len(alerts.told) == 1


def test_the_command_tells_it_when_all_is_said_and_the_row_is_completed(
    alerts,
    pod,
    hub,
    app,
    trained,
    runpod,
):
    """The real command with the real row: when the platform hears of it, everything is true."""
    job = app.add_job()
    alerts.seen = lambda: (app.row(job.id)["status"], hub.repo("ada/model").commits()[0].title)
    environ = app.environ(job) | environ_of(alerts, JOB_ID=job.id)
    environ |= {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "agent", "finalize", "--json"],
        env=pod.environ(trained("sft_lora"), **environ), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["result"] == "completed"
    assert alerts.saw == [("completed", f"Publish SFT model of job {job.id}")]
    assert INTERNAL not in done.stdout + done.stderr
    assert KEY not in done.stderr
