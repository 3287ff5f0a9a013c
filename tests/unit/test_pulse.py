"""What a running finalize writes of itself: cheap, whole, and never in the way of the work."""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import threading
from collections import Counter
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from agent import log, progress
from agent import pulse as module
from agent.config import load
from agent.errors import ArtifactError, HubUnreachableError, Interrupted
from agent.finalize import finalize
from agent.outcome import Outcome
from agent.pod.marker import is_running, process_mark
from agent.pulse import Pulse
from agent.retry import Patience

SECRET = "planted-secret-of-the-pulse"


class Beating:
    """A pulse without a thread of its own: a test says when a second is over."""

    def __init__(self, folder, clock):
        self.folder, self.clock, self.outcome, self.retries = folder, clock, Outcome(), Counter()
        ticks = itertools.count(1)
        self.pulse = Pulse(folder, self.outcome, self.retries, now=lambda: f"t{next(ticks)}", clock=clock)
        self.pulse._thread = threading.Thread(target=lambda: None)

    def second(self):
        self.clock.now += 1.0
        self.pulse.write()
        return self.read()

    def read(self):
        return json.loads((self.folder / "pulse.json").read_text())


@pytest.fixture
def beating(tmp_path, clock):
    return Beating(tmp_path, clock)


def test_it_says_who_works_at_which_step_since_when(beating):
    with beating.pulse, beating.outcome.step("look"):
        said = beating.second()
        assert (said["pid"], said["step"], said["ended"]) == (os.getpid(), "look", None)
        assert is_running(said["process"])
        assert said["begun"] < said["since"] < said["time"]
        assert (said["done_bytes"], said["rate_bytes_s"], said["retries"]) == (None, None, 0)


def test_the_times_are_moments_that_other_programs_read(tmp_path):
    with Pulse(tmp_path, Outcome(), Counter()):
        pass
    said = json.loads((tmp_path / "pulse.json").read_text())
    for name in ("begun", "time", "ended"):
        assert datetime.fromisoformat(said[name]).utcoffset().total_seconds() == 0


def test_bytes_rate_and_retries_are_told_as_they_move(beating):
    with beating.pulse, beating.outcome.step("content"), progress.meter("uploading", 1000) as shown:
        assert beating.second()["done_bytes"] == 0
        shown.show(300, 200)
        beating.retries["content", "http_503"] += 2
        beating.retries["read", "no_answer"] += 1
        said = beating.second()
        assert [said[name] for name in ("what", "done_bytes", "total_bytes", "sent_bytes")] == [
            "uploading", 300, 1000, 200,
        ]  # fmt: skip
        assert (said["rate_bytes_s"], said["retries"]) == (300, 3)
        assert beating.second()["rate_bytes_s"] == 150


def test_the_rate_is_that_of_the_last_ten_moments(beating):
    with beating.pulse, beating.outcome.step("content"), progress.meter("uploading", 10_000) as shown:
        beating.second()
        shown.show(5000, 5000)
        assert beating.second()["rate_bytes_s"] == 5000
        for _ in range(9):
            said = beating.second()
        assert said["rate_bytes_s"] == 0


def test_the_next_step_begins_without_the_bytes_of_the_last_one(beating):
    with beating.pulse:
        with beating.outcome.step("content"), progress.meter("uploading", 1000) as shown:
            shown.show(1000, 1000)
            beating.second()
        with beating.outcome.step("commit"):
            said = beating.second()
            assert (said["step"], said["what"], said["done_bytes"]) == ("commit", None, None)
        with beating.outcome.step("content"), progress.meter("uploading", 100) as shown:
            shown.show(10, 10)
            assert beating.second()["rate_bytes_s"] is None


def test_a_moment_that_is_like_the_last_one_is_not_written_again(beating):
    with beating.pulse:
        beating.second()
        (beating.folder / "pulse.json").unlink()
        for _ in range(9):
            beating.clock.now += 1.0
            beating.pulse.write()
        assert not (beating.folder / "pulse.json").exists()


def test_where_nothing_moves_it_says_every_ten_seconds_that_it_lives(beating):
    with beating.pulse:
        first = beating.second()
        beating.clock.now += 9.0
        assert beating.second()["time"] > first["time"]


def test_its_thread_writes_at_once_and_then_at_most_once_a_second(tmp_path, monkeypatch):
    waits, first, turns = [], threading.Event(), threading.Semaphore(0)

    class Seconds(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            first.set()
            turns.acquire()
            return self.is_set()

        def set(self):
            super().set()
            turns.release()

    pulse = Pulse(tmp_path, Outcome(), Counter())
    pulse._over = Seconds()
    with pulse:
        assert first.wait(10)
        assert (tmp_path / "pulse.json").exists()
        turns.release()
    assert set(waits) == {1.0}


@pytest.mark.parametrize("result", ["completed", "not-published"])
def test_the_end_says_the_result(result, beating):
    with beating.pulse:
        beating.outcome.result = result
    said = beating.read()
    assert (said["result"], said["error"]) == (result, None)
    assert said["ended"]
    assert beating.outcome.watchers == []


ENDS = {
    "unreachable": (
        HubUnreachableError("The Hub is down.", hint="Run again."),
        {"code": "hub-unreachable", "message": "The Hub is down.", "hint": "Run again."},
    ),
    "signal": (
        Interrupted(15),
        {"code": "interrupted", "message": "stopped by SIGTERM", "hint": "Run the same command to continue."},
    ),
    "bug": (KeyError("x"), {"code": "bug", "message": "KeyError: 'x'", "hint": "Please report it."}),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_says_what_it_died_of(end, beating):
    error, told = ENDS[end]
    beating.outcome.result = "completed"
    with pytest.raises(type(error)), beating.pulse:
        raise error
    said = beating.read()
    assert (said["result"], said["error"], bool(said["ended"])) == (None, told, True)


def test_retries_that_were_told_are_not_forgotten_in_the_end(beating):
    with beating.pulse:
        beating.retries["read", "http_500"] = 4
        beating.second()
        beating.retries.clear()
    assert beating.read()["retries"] == 4


def test_nobody_hears_of_it_after_the_end(beating):
    with beating.pulse:
        pass
    assert isinstance(progress.meter("uploading", 10), progress.LineMeter)
    with beating.outcome.step("later"):
        pass
    assert beating.read()["step"] is None


def test_secrets_stay_out_of_it(beating):
    log.hide([SECRET])
    with pytest.raises(HubUnreachableError), beating.pulse:
        raise HubUnreachableError(f"no answer to {SECRET}", hint="…")
    assert SECRET not in (beating.folder / "pulse.json").read_text()


def test_only_its_owner_reads_it_and_nothing_else_is_left_in_the_folder(beating):
    with beating.pulse:
        pass
    assert [path.name for path in beating.folder.iterdir()] == ["pulse.json"]
    assert stat.S_IMODE((beating.folder / "pulse.json").stat().st_mode) == 0o600


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_one_line_of_debugging_and_never_the_work(beating, monkeypatch):
    monkeypatch.setattr(module.os, "open", full)
    with capture_logs() as logs, beating.pulse:
        for step in ("artifact", "row", "look"):
            with beating.outcome.step(step):
                beating.pulse.write()
    said = [line for line in logs if line["event"] == "other shells cannot be told what happens here"]
    assert [line["log_level"] for line in said] == ["debug"]
    assert not (beating.folder / "pulse.json").exists()


def test_a_folder_that_is_not_there_is_no_reason_to_stop(tmp_path):
    with Pulse(tmp_path / "missing", Outcome(), Counter()):
        pass
    assert not (tmp_path / "missing").exists()


def test_a_disk_that_has_room_again_is_written_again(beating, monkeypatch):
    with beating.pulse:
        with monkeypatch.context() as patch, beating.outcome.step("look"):
            patch.setattr(module.os, "open", full)
            beating.pulse.write()
        with beating.outcome.step("repo"):
            assert beating.second()["step"] == "repo"


def test_a_volume_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    hangs, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(module, "_GRACE_S", 0.05)
    pulse = Pulse(tmp_path, Outcome(), Counter())

    def hang(_document):
        hangs.set()
        go_on.wait(10)

    monkeypatch.setattr(pulse, "_replace", hang)
    with pulse:
        assert hangs.wait(10)
    assert pulse._thread.is_alive()
    go_on.set()
    pulse._thread.join(10)


def test_bytes_that_threads_tell_never_bring_back_an_earlier_step(beating, monkeypatch):
    held, replace = [], module.replace
    monkeypatch.setattr(
        module, "replace", lambda *a, **b: held.append(beating.pulse._guard.locked()) or replace(*a, **b)
    )
    with beating.pulse, beating.outcome.step("content"):
        beating.pulse.moved("uploading", 1, 2, 1)
        assert held == [True]


def test_what_marks_the_process_is_its_own(beating):
    with beating.pulse:
        assert beating.second()["process"] == process_mark(os.getpid())


def test_a_dry_run_writes_nothing_of_itself(tmp_path, clock):
    folder = tmp_path / "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"
    folder.mkdir()
    config = load({"AGENT_STATE_DIR": str(tmp_path), "OUTPUT_DIR": "/none", "JOB_ID": folder.name})
    for dry_run, written in ((True, False), (False, True)):
        with pytest.raises(ArtifactError):
            finalize(config, Outcome(), Patience(9, clock=clock, sleep=clock.sleep), dry_run=dry_run)
        assert (folder / "pulse.json").exists() is written
