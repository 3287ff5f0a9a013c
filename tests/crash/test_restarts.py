"""RunPod starts a container again whenever it ends: one training, one commit, one end of the pod."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from agent.sandbox.loopback import Fault
from agent.sandbox.runpod import RunPodApi
from tests.conftest import FIXTURES, ROOT
from tests.crash.container import Container, agent_command, agent_path

POD, KEY = "pod1x2y3z", "rpa_key_of_the_pod_123456"
STEPS = 6


class PodOfRunPod:
    """A pod with a volume, a job, and a start command that trains; its container can die at any moment."""

    def __init__(self, hub, app, runpod, pod, tmp_path):
        self.hub, self.app, self.runpod, self.home = hub, app, runpod, tmp_path
        self.job = app.add_job(status="pending")
        self.diary_path, self.gates, self.folder = tmp_path / "diary", tmp_path / "gates", tmp_path / "out"
        self.gates.mkdir()
        self.environ = pod.environ(self.folder, **app.environ(self.job)) | {
            "PATH": os.environ["PATH"], "PYTHONPATH": agent_path(), "HOME": str(tmp_path),
            "RUNPOD_POD_ID": POD, "RUNPOD_API_KEY": KEY, "AGENT_STOP_AFTER_S": "0",
            "FAKE_RUNPOD": runpod.endpoint,
        }  # fmt: skip
        self.deeds = [
            f"wait={self.gates}/{{step}}", f"steps={STEPS}", f"wait={self.gates}/save",
            f"save={FIXTURES / 'sft_lora'}",
        ]  # fmt: skip
        self.containers = []

    @property
    def command(self):
        trainer = [sys.executable, str(ROOT / "tests" / "trainer.py"), str(self.diary_path), *self.deeds]
        return agent_command("run", "--", *trainer)

    def start(self, command=None, **more):
        self.containers.append(Container(command or self.command, self.environ | more, self.home / "log"))
        return self.containers[-1]

    def start_under_a_hook(self):
        """Start a run that is killed alone when the gate `kill` opens, and then another one in its place."""
        run, gate = shlex.join(self.command), self.gates / "kill"
        await_kill = f"while [ ! -e {gate} ]; do sleep 0.01; done"
        return self.start(["bash", "-c", f"{run} & {await_kill}; kill -9 $!; exec {run}"])

    def close(self):
        for container in self.containers:
            container.close()

    def open(self, gate):
        (self.gates / str(gate)).touch()

    @property
    def diary(self):
        return self.diary_path.read_text().splitlines() if self.diary_path.exists() else []

    @property
    def marker_path(self):
        return Path(self.environ["AGENT_STATE_DIR"]) / "pods" / POD / f"{self.job.id}.json"

    @property
    def marker(self):
        return json.loads(self.marker_path.read_text()) if self.marker_path.exists() else {}

    def commits(self):
        repo = self.hub.repos.get("ada/model")
        return [one for one in repo.every_commit() if "Job-Id" in one.message] if repo else []

    def assert_done_once(self):
        assert [line for line in self.diary if line != "start"] == [
            *(f"step {step}" for step in range(1, STEPS + 1)), "end",
        ]  # fmt: skip
        assert len(self.commits()) == 1
        assert self.app.row(self.job.id)["status"] == "completed"
        pod = self.runpod.pods[POD]
        assert (pod.stops, pod.terminates, self.runpod.catastrophes) == (1, 0, [])


@pytest.fixture
def runpod():
    with RunPodApi() as fake:
        fake.add_pod(POD)
        fake.add_key(KEY)
        yield fake


@pytest.fixture
def rented(hub, app, runpod, pod, tmp_path):
    one = PodOfRunPod(hub, app, runpod, pod, tmp_path)
    yield one
    one.close()


def test_twenty_restarts_train_once_commit_once_and_stop_the_pod_once(rented):
    """Five while it trains, ten while it finalizes, five while it sleeps, each a kill -9 of everything."""
    for step in range(1, 6):
        container = rented.start()
        rented.open(step)
        container.until((rented.folder / f"checkpoint-{step}").exists)
        container.kill()
    rented.open(6)
    rented.open("save")
    die, killed = random.Random("twenty restarts"), 0
    for server, most in [(rented.hub, 12)] * 7 + [(rented.app.rest, 5)] * 3:
        fault = server.faults.add(Fault("kill", nth=die.randrange(most), after=die.random() < 0.5))
        container = rented.start()
        fault.pid = container.first
        container.until(lambda: fault.fired or rented.runpod.pods[POD].stops)  # noqa: B023 - used at once
        container.kill()
        killed += fault.fired
        server.faults.clear()
    assert killed >= 5  # the others died after the end
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    asked = len(rented.hub.requests), len(rented.runpod.requests)
    for _ in range(5):
        container.kill()
        container = rented.start()
        container.until(lambda: container.said.count("nothing was done again") > _)  # noqa: B023 - used at once
        assert container.is_up()
    rented.assert_done_once()
    assert (len(rented.hub.requests), len(rented.runpod.requests)) == asked
    assert container.signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("acted", [False, True])
def test_a_container_that_dies_at_its_stop_is_stopped_once(acted, rented):
    for gate in (*range(1, 7), "save"):
        rented.open(gate)
    fault = rented.runpod.faults.add(Fault("kill", match="POST .*/action", after=acted))
    container = rented.start()
    fault.pid = container.first
    container.until(lambda: fault.fired)
    container.kill()
    assert rented.runpod.pods[POD].stops == acted
    rented.runpod.faults.clear()
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    rented.assert_done_once()


def test_a_pod_that_was_started_again_on_purpose_is_not_stopped(rented):
    for gate in (*range(1, 7), "save"):
        rented.open(gate)
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    container.kill()
    rented.runpod.pods[POD].resume()
    container = rented.start()
    container.until(lambda: "somebody started it again, it is kept" in container.said)
    assert rented.runpod.pods[POD].status == "RUNNING"
    rented.assert_done_once()


def test_a_training_that_vanishes_thrice_without_a_trace_has_failed(rented):
    """A container that dies whenever it trains would be started again for ever, at the price of its GPU."""
    for number in range(3):
        container = rented.start()
        container.until(lambda: rented.diary.count("start") == number + 1)  # noqa: B023 - used at once
        container.kill()
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    row = rented.app.row(rented.job.id)
    assert rented.diary == ["start"] * 3
    assert (row["status"], row["failure_stage"]) == ("failed", "training")
    assert "started 3 times" in row["error_message"]
    assert rented.runpod.pods[POD].stops == 1
    assert not rented.commits()


def test_a_training_whose_end_nobody_heard_is_not_done_again(rented):
    """The container died between the last word of the training and the note of it."""
    for gate in (*range(1, 7), "save"):
        rented.open(gate)
    rented.deeds += ["say=all is saved", f"wait={rented.home / 'never'}"]
    container = rented.start()
    container.until(lambda: "all is saved" in container.said)
    container.kill()
    before = rented.diary
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    assert rented.diary == before
    assert rented.app.row(rented.job.id)["status"] == "completed"
    assert len(rented.commits()) == 1


def test_a_training_that_died_half_way_is_started_again_though_it_had_saved_weights(rented, tmp_path):
    """A checkpoint of step 2 of 4 is no end."""
    (tmp_path / "half").mkdir()
    shutil.copytree(FIXTURES / "dpo_lora" / "checkpoint-2", tmp_path / "half" / "checkpoint-2")
    whole = f"save={FIXTURES / 'dpo_lora'}"
    rented.deeds = [f"save={tmp_path / 'half'}", "say=half of it", f"wait={rented.gates}/on", whole]
    container = rented.start()
    container.until(lambda: "half of it" in container.said)
    container.kill()
    rented.open("on")
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    assert rented.diary == ["start", "start", "end"]
    assert rented.app.row(rented.job.id)["status"] == "completed"


def test_a_finished_model_from_before_the_training_does_not_end_it(rented):
    shutil.copytree(FIXTURES / "sft_lora", rented.folder)
    age(rented.folder, 86_400)
    rented.deeds = ["say=begun", f"wait={rented.gates}/on", f"save={FIXTURES / 'dpo_lora'}"]
    container = rented.start()
    container.until(lambda: "begun" in container.said)
    container.kill()
    rented.open("on")
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    assert rented.diary == ["start", "start", "end"]


def test_a_training_that_outlives_its_run_is_waited_for_and_there_are_never_two(rented):
    """Only the run was killed, by whoever looks for memory; the hook starts it again."""
    rented.deeds = [f"wait={rented.gates}/on", f"save={FIXTURES / 'sft_lora'}"]
    container = rented.start_under_a_hook()
    container.until(lambda: rented.diary == ["start"] and rented.marker.get("process"))
    rented.open("kill")
    container.until(lambda: "waiting for its end" in container.said)
    rented.open("on")
    container.until(lambda: rented.marker.get("phase") == "left")
    assert rented.diary == ["start", "end"]
    assert rented.app.row(rented.job.id)["status"] == "completed"


def test_a_training_that_outlives_its_run_is_stopped_with_the_next_one(rented):
    rented.deeds = ["gentle", "say=begun", f"wait={rented.home / 'never'}"]
    container = rented.start_under_a_hook()
    container.until(lambda: "begun" in container.said and rented.marker.get("process"))
    rented.open("kill")
    container.until(lambda: "waiting for its end" in container.said)
    assert container.signal(signal.SIGTERM) == 143
    assert rented.diary == ["start", "gentle"]


def test_a_training_that_finds_all_done_when_it_is_started_again_is_one_training(rented):
    """Its weights are from before its last start, and from after its first."""
    rented.deeds = [f"save={FIXTURES / 'base'}", "say=all is saved", f"wait={rented.home / 'never'}"]
    container = rented.start()
    container.until(lambda: "all is saved" in container.said)
    container.kill()
    age(rented.folder, 300)
    rented.marker_path.write_text(json.dumps(rented.marker | {"begun_at": rented.marker["begun_at"] - 600}))
    rented.deeds = ["say=nothing is left to do"]
    container = rented.start()
    container.until(lambda: rented.marker.get("phase") == "left")
    assert rented.app.row(rented.job.id)["status"] == "completed"
    assert "nothing is left to do" in container.said


def age(folder, seconds):
    for path in folder.rglob("*"):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def test_elsewhere_a_new_run_is_a_new_training(rented):
    rented.deeds = [f"save={FIXTURES / 'sft_lora'}"]
    for _ in range(2):
        container = rented.start(RUNPOD_POD_ID="", JOB_ID="")
        assert container._process.wait(60) == 0
    assert rented.diary == ["start", "end"] * 2


def test_the_first_process_of_a_pod_does_not_return(rented):
    rented.deeds = ["exit=1"]
    container = rented.start(AGENT_ON_FINISH="keep")
    container.until(lambda: rented.marker.get("phase") == "finished")
    assert rented.app.row(rented.job.id)["status"] == "failed"
    assert container.is_up()
    assert container.signal(signal.SIGTERM) == 17


def test_a_second_run_in_the_same_container_trains_nothing_and_stops_the_pod(rented):
    """Somebody ran it by hand after the first one, which was told to keep the pod."""
    for gate in (*range(1, 7), "save"):
        rented.open(gate)
    run = shlex.join(rented.command)
    container = rented.start(["bash", "-c", f"AGENT_ON_FINISH=keep {run}; {run}; sleep 1000"])
    container.until(lambda: rented.marker.get("phase") == "left")
    rented.assert_done_once()
    assert "nothing was trained" in container.said


@pytest.mark.parametrize(("init", "returns"), [("a-small-init", False), ("bash", True)])
def test_below_an_init_it_does_not_return_either_but_below_a_shell_it_does(init, returns, rented, tmp_path):
    """An init ends with its child, and the container with it; a shell has something else to do."""
    program = tmp_path / init
    program.symlink_to(shutil.which("bash"))
    rented.deeds = ["exit=1"]
    command = f"{shlex.join(rented.command)}; echo it returned; sleep 1000"
    container = rented.start([str(program), "-c", command], AGENT_ON_FINISH="keep")
    said = {"it returned", "waiting for the end of the pod"}
    container.until(lambda: [words for words in said if words in container.said])
    assert ("it returned" in container.said) == returns


def test_elsewhere_it_returns_the_exit_code(rented):
    rented.deeds = ["exit=1"]
    container = rented.start(RUNPOD_POD_ID="")
    assert container._process.wait(60) == 17
    assert rented.runpod.requests == []


def test_the_first_process_buries_what_was_left_to_it(rented):
    rented.deeds = [f"daemon={rented.gates}/die", f"wait={rented.gates}/on"]
    container = rented.start(AGENT_WARM="off")
    path = Path(f"/proc/{container.first}/task/{container.first}/children")
    container.until(
        lambda: any("daemon" in line for line in rented.diary) and len(path.read_text().split()) == 2
    )
    rented.open("die")
    container.until(lambda: len(path.read_text().split()) == 1)  # the dead are children, too, until buried


def test_sigterm_reaches_the_training_of_a_first_process(rented):
    rented.deeds = ["gentle", "say=ready", f"wait={rented.home / 'never'}"]
    container = rented.start()
    container.until(lambda: "ready" in container.said)
    assert container.signal(signal.SIGTERM) == 143
    assert rented.diary == ["start", "gentle"]
    assert rented.marker["phase"] == "stopped"
    assert "SIGTERM" in rented.app.row(rented.job.id)["result_note"]
    assert rented.runpod.requests == []


def test_two_runs_at_once_train_once(rented):
    first = rented.start(RUNPOD_POD_ID="")
    first.until(lambda: rented.diary == ["start"])
    second = rented.start(RUNPOD_POD_ID="")
    second.until(lambda: "waiting for another run" in second.said)
    for gate in (*range(1, 7), "save"):
        rented.open(gate)
    assert first._process.wait(60) == second._process.wait(60) == 0
    assert rented.diary.count("start") == rented.diary.count("end") == 1
    assert len(rented.commits()) == 1
