"""What a pod knows after a restart of its container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from agent.errors import ConfigError
from agent.pod.marker import LEFT, TRAINED, TRAINING, Mark, Marker, container_life, is_running, process_mark

FULL = Mark(
    phase=LEFT, command="c0ffee", begun_at=1.5, started_at=2.5, ended_at=3.5, vanished=1, process="b:1:2",
    trained=True, child_exit=3, finished_at=4.5, exit_code=17, result="failed", proven=True, life="b:1:1",
    left_at=5.5,
)  # fmt: skip


def test_a_marker_is_read_as_it_was_written(tmp_path):
    marker = Marker(tmp_path / "pods" / "p" / "job.json")
    with marker.held():
        assert marker.mark == Mark()
        marker.begin(FULL)
    again = Marker(marker.path)
    with again.held():
        assert again.mark == FULL
        again.keep(phase=TRAINED, child_exit=None)
        assert again.mark.child_exit is None
        again.forget()
        assert again.mark == Mark()


def test_a_whole_number_is_read_where_a_moment_is_expected(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps(asdict(FULL) | {"version": 1, "left_at": 6}))
    marker = Marker(tmp_path / "job.json")
    with marker.held():
        assert marker.mark.left_at == 6


@pytest.mark.parametrize(
    "written",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "phase": "left"}',
        '{"version": 1, "phase": 7, "child_exit": "x"}',
    ],
)
def test_a_damaged_marker_counts_as_none(written, tmp_path):
    (tmp_path / "job.json").write_text(written)
    marker = Marker(tmp_path / "job.json")
    with marker.held():
        assert marker.mark == Mark()


def test_a_training_does_not_begin_where_nothing_can_be_noted(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught, Marker(tmp_path / "file" / "job.json").held():
        pass
    assert "AGENT_STATE_DIR" in caught.value.hint
    marker = Marker(tmp_path / "job.json")
    with marker.held():
        marker.path.mkdir()
        with pytest.raises(ConfigError):
            marker.begin(Mark(TRAINING))


def test_what_happened_is_known_here_though_it_cannot_be_noted(tmp_path):
    marker = Marker(tmp_path / "job.json")
    with marker.held():
        marker.path.mkdir()
        marker.keep(phase=TRAINED)
        assert marker.mark.phase == TRAINED


def test_a_pod_is_quiet_when_no_run_is_at_work_on_any_job(tmp_path):
    one, other = Marker(tmp_path / "one.json"), Marker(tmp_path / "other.json")
    assert one.is_quiet()
    with other.held():
        assert not one.is_quiet()
        with one.held():  # two jobs may run beside each other
            assert not other.is_quiet()
    assert one.is_quiet()


def test_a_process_is_told_from_all_others():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = process_mark(process.pid)
        assert is_running(mark)
        boot, pid, start = mark.split(":")
        assert not is_running(f"{boot}:{pid}:{int(start) + 1}")
        assert not is_running(f"x{boot}:{pid}:{start}")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(mark)  # dead, though nobody has buried it
    assert not is_running(mark)
    assert not any(map(is_running, ("", "a:b:c", "::", "1:2", mark.split(":")[0])))


def test_this_life_of_the_container_is_known():
    assert container_life() == process_mark(1) != ""
