"""The end of a pod: what is really asked of RunPod, for every way a job can end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from agent import parting
from agent.config import load
from agent.entrypoint import Entrypoint, leave_after_finalize
from agent.outcome import Outcome
from agent.parting import Parting
from agent.pod.marker import FINISHED, LEAVING, LEFT, Mark, Marker
from agent.pod.storage import Storage
from agent.run import Run
from agent.sandbox.loopback import Fault
from tests.crash.container import agent_path
from tests.wire.conftest import KEY, POD

HERE, VOLUME, NETWORK = Storage.CONTAINER, Storage.VOLUME, Storage.NETWORK


def config_of(tmp_path, **more):
    environ = {
        "RUNPOD_POD_ID": POD, "RUNPOD_API_KEY": KEY, "AGENT_STATE_DIR": str(tmp_path / "state"),
        "OUTPUT_DIR": str(tmp_path / "out"), **more,
    }  # fmt: skip
    return load({name: value for name, value in environ.items() if value})


# How a job ended: exit code, result, published, whether it was trained well, whether weights are on disk.
ENDS = {
    "completed": (0, "completed", True, 0, True),
    "published, not recorded": (15, "failed", True, 0, True),
    "published, nobody told": (76, "pending", True, 0, True),
    "no token": (0, "skipped", False, 0, True),
    "the gate said no": (0, "not-published", False, 0, True),
    "folder refused": (11, "failed", False, 0, True),
    "no right": (12, "failed", False, 0, True),
    "hub refused": (13, "failed", False, 0, True),
    "not what was on disk": (14, "failed", False, 0, True),
    "hub silent": (75, "pending", False, 0, True),
    "bug": (70, "failed", False, 0, True),
    "cancelled after training": (15, "cancelled", False, 0, True),
    "no weights to be found": (11, "failed", False, 0, False),
    "training failed, weights left": (17, "failed", False, 1, True),
    "training failed, nothing left": (17, "failed", False, 1, False),
    "training failed, checkpoint published": (17, "failed", True, 1, True),
    "cancelled while training": (15, "cancelled", False, None, True),
    "never trained": (15, "cancelled", False, None, False),
}
# What RunPod is asked for when a stop, or a terminate, was asked of us: on the three kinds of storage.
ALLOWED = {
    "completed": ("stop stop stop", "terminate terminate terminate"),
    "published, not recorded": ("stop stop stop", "terminate terminate terminate"),
    "published, nobody told": ("stop stop stop", "terminate terminate terminate"),
    "no token": ("- stop stop", "- stop terminate"),
    "the gate said no": ("- stop stop", "- stop terminate"),
    "folder refused": ("- stop stop", "- stop stop"),
    "no right": ("- stop stop", "- stop stop"),
    "hub refused": ("- stop stop", "- stop stop"),
    "not what was on disk": ("- stop stop", "- stop stop"),
    "hub silent": ("- stop stop", "- stop stop"),
    "bug": ("- stop stop", "- stop stop"),
    "cancelled after training": ("- stop stop", "- stop stop"),
    "no weights to be found": ("- - -", "- - -"),
    "training failed, weights left": ("- stop stop", "- stop stop"),
    "training failed, nothing left": ("stop stop stop", "terminate terminate terminate"),
    "training failed, checkpoint published": ("stop stop stop", "terminate terminate terminate"),
    "cancelled while training": ("- stop stop", "- stop stop"),
    "never trained": ("stop stop stop", "terminate terminate terminate"),
}


def test_every_end_has_its_line_in_the_table():
    assert ENDS.keys() == ALLOWED.keys()


@pytest.mark.parametrize("asked", ["keep", "stop", "terminate"])
@pytest.mark.parametrize("place", [HERE, VOLUME, NETWORK], ids=lambda place: place.name)
@pytest.mark.parametrize("name", ENDS)
def test_nothing_that_could_lose_a_model_is_asked_of_runpod(
    name, place, asked, runpod, slept, tmp_path, monkeypatch
):
    """Through the entrypoint, as after a run: the law, the ladder and the real requests."""
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: place)
    exit_code, result, published, child_exit, weights = ENDS[name]
    entrypoint = run_that_ended(tmp_path, exit_code, result, published, child_exit, AGENT_ON_FINISH=asked)
    if weights:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "adapter_model.safetensors").write_bytes(b"weights")
    entrypoint.leave(exit_code)
    pod = runpod.pods[POD]
    happened = "terminate" if pod.terminates else "stop" if pod.stops else "-"
    if asked == "keep":
        assert (happened, runpod.requests, slept) == ("-", [], [])
        return
    allowed = ALLOWED[name][("stop", "terminate").index(asked)].split()[place]
    assert happened == allowed
    assert pod.stops + pod.terminates == (allowed != "-")
    assert slept == ([] if allowed == "-" else [3600.0 if exit_code == 0 else 120.0])


def run_that_ended(tmp_path, exit_code, result, published, child_exit, **more):
    entrypoint = Entrypoint(["train"], environ={}, stdout=1)
    config = config_of(tmp_path, **more)
    run = entrypoint._run = Run(config, entrypoint.outcome, ["train"], environ={}, stdout=1)
    entrypoint.outcome.result, entrypoint.outcome.published = result, published
    now = run.marker.now()
    run.marker.now = lambda: now
    run.marker.keep(trained=child_exit is not None, child_exit=child_exit)
    run.finish(exit_code)
    return entrypoint


def parting_of(tmp_path, **more):
    told = []
    config = config_of(tmp_path, **more)
    return Parting(config, tell=told.append, note=told.append, news=lambda: None), told


PROVEN = parting.End(0, proven=True)


def marker_at(tmp_path, mark, *, now=1_000_000.0):
    marker = Marker(tmp_path / "pods" / "job.json", now=lambda: now)
    marker.path.parent.mkdir(parents=True)
    marker.mark = mark
    return marker


@pytest.mark.parametrize(("asked", "told"), [(None, 3600.0), ("60", 60.0), ("0", None)])
def test_the_last_look_takes_as_long_as_was_asked_for(asked, told, runpod, slept, tmp_path):
    leaving, _ = parting_of(tmp_path, AGENT_STOP_AFTER_S=asked)
    assert leaving.leave("stop", PROVEN)
    assert slept == ([told] if told else [])


def test_the_last_look_is_counted_from_the_end_of_the_job(runpod, slept, tmp_path):
    leaving, _ = parting_of(tmp_path)
    marker = marker_at(tmp_path, Mark(FINISHED, finished_at=1_000_000.0 - 3000))
    assert leaving.leave("stop", PROVEN, marker)
    assert slept == [600.0]
    assert marker.mark.phase == LEFT


@pytest.mark.parametrize(
    "mark",
    [Mark(LEFT, left_at=999_999.0), Mark(LEAVING, left_at=999_879.0), Mark(FINISHED, left_at=900_000.0)],
)
def test_a_pod_that_was_started_again_on_purpose_is_kept(mark, runpod, slept, tmp_path):
    leaving, told = parting_of(tmp_path)
    assert not leaving.leave("stop", PROVEN, marker_at(tmp_path, mark))
    assert (runpod.requests, slept, told) == ([], [], [])


def test_a_container_that_died_while_it_asked_asks_again_unless_it_was_heard(runpod, slept, tmp_path):
    leaving, _ = parting_of(tmp_path)
    mark = Mark(LEAVING, finished_at=1.0, left_at=1_000_000.0 - 20)
    assert leaving.leave("stop", PROVEN, marker_at(tmp_path, mark))
    assert runpod.pods[POD].stops == 1
    assert leaving.leave("stop", PROVEN, marker_at(tmp_path / "again", mark))
    assert runpod.pods[POD].stops == 1


def test_a_pod_in_which_another_run_is_at_work_is_kept_for_it(runpod, slept, tmp_path):
    leaving, _ = parting_of(tmp_path)
    marker = marker_at(tmp_path, Mark(FINISHED))
    with Marker(marker.path.parent / "other.json").held():
        assert not leaving.leave("stop", PROVEN, marker)
    assert runpod.requests == []


def test_a_stop_that_no_key_may_order_is_told_once_and_tried_until_we_give_up(runpod, slept, tmp_path):
    runpod._keys.clear()
    runpod.add_key(KEY, "read")
    leaving, told = parting_of(tmp_path, AGENT_GIVE_UP_S="3000")
    marker = marker_at(tmp_path, Mark(FINISHED))
    assert not leaving.leave("stop", PROVEN, marker)
    assert slept.count(600.0) == 5
    assert told[0] == "stop"
    [shouted] = told[1:]
    assert "Nothing could stop this pod, and it goes on costing money" in shouted
    assert "403" in shouted
    assert KEY not in shouted
    assert marker.mark.phase == LEFT


def test_a_stop_that_works_in_the_end_is_a_stop(runpod, slept, tmp_path):
    refused = runpod.faults.add(Fault("status", status=403, times=12))
    leaving, told = parting_of(tmp_path)
    marker = marker_at(tmp_path, Mark(FINISHED))
    assert leaving.leave("stop", PROVEN, marker)
    assert refused.fired == 12
    assert 600.0 in slept
    assert runpod.pods[POD].stops == 1
    assert marker.mark.phase == LEFT
    assert len(told) == 2


def test_what_is_left_in_the_pod_during_the_last_look_counts(runpod, slept, tmp_path, monkeypatch):
    """A training that failed and left nothing; then somebody trained by hand."""

    def train(seconds):
        slept.append(seconds)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(parting.time, "sleep", train)
    leaving, told = parting_of(tmp_path, AGENT_STOP_AFTER_S="5")
    assert not leaving.leave("terminate", parting.End(17, no_model=True))
    assert slept == [5.0]
    assert "The pod is kept, not terminated" in told[0]
    assert runpod.requests == []


def test_without_a_key_it_is_said_at_once(runpod, slept, tmp_path):
    leaving, told = parting_of(tmp_path, RUNPOD_API_KEY="")
    assert not leaving.leave("stop", PROVEN)
    assert slept == []
    assert re.search("goes on costing money.*Stop it by hand", told[0])


def test_outside_of_runpod_nothing_is_asked(runpod, slept, tmp_path):
    leaving, told = parting_of(tmp_path, RUNPOD_POD_ID="")
    assert not leaving.leave("terminate", PROVEN)
    assert (slept, told, runpod.requests) == ([], [], [])


@pytest.mark.parametrize("pod_id", ["../pods", "a/b", "a?b", "a b", "x" * 200])
def test_a_hostile_pod_id_never_leaves_the_process(pod_id, runpod, slept, tmp_path):
    leaving, told = parting_of(tmp_path, RUNPOD_POD_ID=pod_id, AGENT_GIVE_UP_S="1")
    assert not leaving.leave("terminate", PROVEN)
    assert runpod.requests == []
    assert "no id of a pod" in told[-1]


def test_finalize_ends_the_pod_only_if_it_was_told_to(runpod, slept, tmp_path):
    done = Outcome(result="completed", published=True)
    leave_after_finalize(config_of(tmp_path), done, 0)
    leave_after_finalize(config_of(tmp_path, AGENT_ON_FINISH="keep"), done, 0)
    leave_after_finalize(config_of(tmp_path, AGENT_ON_FINISH="stop"), done, 143)
    assert runpod.requests == []
    leave_after_finalize(config_of(tmp_path, AGENT_ON_FINISH="stop", RUNPOD_POD_ID=POD), done, 0)
    assert runpod.pods[POD].stops == 1


def test_the_command_finalize_gives_its_answer_and_then_stops_the_pod(runpod, pod, trained):
    environ = {
        "PYTHONPATH": agent_path(), "FAKE_RUNPOD": runpod.endpoint, "RUNPOD_POD_ID": POD,
        "RUNPOD_API_KEY": KEY, "AGENT_ON_FINISH": "stop", "AGENT_STOP_AFTER_S": "0",
    }  # fmt: skip
    environ = {"PATH": os.environ["PATH"]} | pod.environ(trained("sft_lora"), **environ)
    command = [sys.executable, "-m", "agent", "finalize", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["result"] == "completed"
    assert runpod.pods[POD].stops == 1
    assert "RunPod confirmed: stop" in done.stderr


def test_finalize_below_a_run_leaves_the_end_of_the_pod_to_it(runpod, slept, tmp_path):
    config = config_of(tmp_path, AGENT_ON_FINISH="stop", TRAINING_AGENT_REPORTS=str(tmp_path))
    leave_after_finalize(config, Outcome(result="completed", published=True), 0)
    assert runpod.requests == []


def test_a_run_that_was_told_to_stop_leaves_the_pod_alone(runpod, slept, tmp_path):
    run_that_ended(tmp_path, 0, "completed", True, 0, AGENT_ON_FINISH="stop").leave(143)
    assert runpod.requests == []


def test_a_wrong_variable_does_not_keep_a_gpu_for_nothing(runpod, slept, tmp_path):
    environ = {
        "RUNPOD_POD_ID": POD, "RUNPOD_API_KEY": KEY, "AGENT_STATE_DIR": str(tmp_path / "state"),
        "OUTPUT_DIR": str(tmp_path / "out"), "AGENT_STALL_S": "soon",
    }  # fmt: skip
    Entrypoint(["train"], environ=environ, stdout=1).leave(10)
    assert runpod.pods[POD].stops == 1


@pytest.mark.parametrize(("shards", "stops"), [(False, 1), (True, 0)])
def test_another_node_is_stopped_unless_parts_of_the_model_are_on_its_disk(
    shards, stops, runpod, slept, tmp_path, monkeypatch
):
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: HERE)
    entrypoint = run_that_ended(tmp_path, 0, "skipped", False, 0, AGENT_ON_FINISH="stop")
    entrypoint._run.elsewhere = "NODE_RANK is 1"
    if shards:
        (tmp_path / "out" / "global_step10").mkdir(parents=True)
    entrypoint.leave(0)
    assert runpod.pods[POD].stops == stops


def test_parts_of_a_model_on_another_node_are_not_what_nobody_wanted_published(
    runpod, slept, tmp_path, monkeypatch
):
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: NETWORK)
    entrypoint = run_that_ended(tmp_path, 0, "skipped", False, 0, AGENT_ON_FINISH="terminate")
    entrypoint._run.elsewhere = "NODE_RANK is 1"
    (tmp_path / "out" / "global_step10").mkdir(parents=True)
    entrypoint.leave(0)
    assert (runpod.pods[POD].stops, runpod.pods[POD].terminates) == (1, 0)


def test_every_part_of_a_publication_counts_wherever_it_lives(runpod, slept, tmp_path, monkeypatch):
    export = tmp_path / "container" / "model.onnx"
    monkeypatch.setattr(parting, "storage_of", lambda paths, **_: HERE if export in paths else VOLUME)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_bytes(b"weights")
    leaving, told = parting_of(tmp_path, AGENT_FILES=f"{export}:onnx/model.onnx")
    assert not leaving.leave("stop", parting.End(75))
    assert "The pod is kept" in told[0]


def test_a_wrong_variable_never_terminates_the_pod(runpod, slept, tmp_path):
    """What an earlier container left on the volume is anywhere."""
    environ = {
        "RUNPOD_POD_ID": POD, "RUNPOD_API_KEY": KEY, "AGENT_STATE_DIR": str(tmp_path / "state"),
        "OUTPUT_DIR": str(tmp_path / "out"), "AGENT_STALL_S": "soon", "AGENT_ON_FINISH": "terminate",
    }  # fmt: skip
    Entrypoint(["train"], environ=environ, stdout=1).leave(10)
    assert (runpod.pods[POD].stops, runpod.pods[POD].terminates) == (1, 0)


def test_a_failed_training_that_saved_elsewhere_on_the_volume_is_not_terminated(
    runpod, slept, tmp_path, monkeypatch
):
    monkeypatch.setattr(parting, "VOLUME", tmp_path)
    monkeypatch.setattr(parting, "storage_of", lambda *_, **__: VOLUME)
    (tmp_path / "elsewhere" / "checkpoint-500").mkdir(parents=True)
    leaving, told = parting_of(tmp_path)
    assert leaving.leave("terminate", parting.End(17, no_model=True))
    assert (runpod.pods[POD].stops, runpod.pods[POD].terminates) == (1, 0)
    assert "stopped, not terminated" in told[0]


def test_a_wrong_variable_about_the_end_keeps_the_pod(runpod, slept, tmp_path):
    environ = {"RUNPOD_POD_ID": POD, "RUNPOD_API_KEY": KEY, "AGENT_ON_FINISH": "explode"}
    Entrypoint(["train"], environ=environ, stdout=1).leave(10)
    assert runpod.requests == []


def test_a_bug_at_the_end_keeps_the_pod_and_does_not_end_its_container(runpod, slept, tmp_path, monkeypatch):
    """A first process that ends is started again for ever."""

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(parting, "storage_of", broken)
    run_that_ended(tmp_path, 0, "completed", True, 0, AGENT_ON_FINISH="stop").leave(0)
    assert runpod.requests == []
    assert "ZeroDivisionError" in (tmp_path / "state" / "bug-report.txt").read_text()
