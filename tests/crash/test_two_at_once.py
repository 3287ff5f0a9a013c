"""Two finalizers of one job at once, on one volume or on two machines: one commit, one completed row."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from contextlib import suppress

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import Pod
from tests.crash.conftest import ended, until

PLACES = ["one volume", "two machines"]
TURN_S = 3.0  # time enough to see that one of two waits for the other
LONGEST_LEAD_S = 0.5


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


def start_second(one, place):
    """Start the other finalizer; on another machine it has a folder and a state of its own."""
    if place == "one volume":
        return one.start()
    return one.start(Pod(one.hub, one.home / "state-2"), shutil.copytree(one.folder, one.home / "copy"))


def assert_both_say_the_truth(one, processes):
    found = [ended(process) for process in processes]
    assert [code for code, _, _ in found] == [0, 0], "\n".join(err for _, _, err in found)
    for _, out, _ in found:
        one.assert_converged(json.loads(out))


def meet_at_the_commit(one, place, kill=None):
    """Start both and let them move the branch only when both want to, or when one waits for the other.

    Returns both processes, and the fault that counts their commits and lets them pass.
    """
    under_way = one.hub.faults.add(Fault("slow", match="/commit/"))
    with one.hub.repo(one.repo_id).lock:
        first = one.start()
        if kill:
            kill.pid = first.pid
        until(lambda: under_way.seen)
        second = start_second(one, place)
        if place == "two machines":
            until(lambda: under_way.seen == 2)
        else:
            with suppress(TimeoutError):
                until(lambda: under_way.seen == 2, TURN_S)
    return (first, second), under_way


def test_two_that_commit_at_the_same_moment_make_one_commit(place, stage):
    """Two machines both try, and one finds the other's; on one volume the second waits and need not try."""
    one = stage("sharded", over="sft_full")
    both, commits = meet_at_the_commit(one, place)
    assert_both_say_the_truth(one, both)
    assert commits.seen == (2 if place == "two machines" else 1)


def test_when_one_of_two_is_killed_the_other_finishes(place, stage):
    """It dies with its commit made and its answer lost, and with whatever it had locked."""
    one = stage("sharded", over="sft_full")
    fault = one.hub.faults.add(Fault("kill", match="/commit/", after=True))
    (first, second), _ = meet_at_the_commit(one, place, kill=fault)
    assert ended(first)[0] == -signal.SIGKILL
    code, out, err = ended(second)
    assert (fault.fired, code) == (1, 0), err
    one.assert_converged(json.loads(out))


def race(one, place, lead_s):
    first = one.start()
    with suppress(subprocess.TimeoutExpired):
        first.wait(lead_s)
    assert_both_say_the_truth(one, [first, start_second(one, place)])


def test_two_that_find_no_repo_make_one_repo_and_one_commit(place, stage):
    """The first to create it is held up while the other looks."""
    one = stage("orpo_lora")
    held_up = one.hub.faults.add(Fault("slow", match="POST /api/repos/create", nth=0, delay_s=1.0))
    race(one, place, 0.0)
    assert held_up.fired == 1


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(12))
def test_whichever_of_two_is_ahead_they_make_one_commit(seed, place, stage):
    die = random.Random(seed)
    one = stage("sharded", over="sft_full") if die.random() < 0.5 else stage("orpo_lora")
    race(one, place, die.uniform(0, LONGEST_LEAD_S))
