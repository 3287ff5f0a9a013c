from __future__ import annotations

import io
import sys

import pytest
from structlog.testing import capture_logs

from agent import progress
from agent.progress import BarMeter, LineMeter, meter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_work_shorter_than_ten_seconds_says_nothing(clock):
    with capture_logs() as logs, LineMeter("uploading", 100_000_000, clock) as shown:
        for _ in range(9):
            clock.now += 1.0
            shown.show(50_000_000, 10_000_000)
    assert logs == []


def test_longer_work_says_a_line_every_ten_seconds(clock):
    with capture_logs() as logs, LineMeter("uploading", 100_000_000, clock) as shown:
        for second in range(1, 26):
            clock.now += 1.0
            shown.show(second * 2_000_000, second * 1_000_000)
    assert logs == [
        {
            "event": "uploading",
            "log_level": "info",
            "done_mb": 20,
            "of_mb": 100,
            "sent_mb": 10,
            "rate_mb_s": 2.0,
            "left_s": 40,
        },
        {
            "event": "uploading",
            "log_level": "info",
            "done_mb": 40,
            "of_mb": 100,
            "sent_mb": 20,
            "rate_mb_s": 2.0,
            "left_s": 30,
        },
    ]


def test_before_a_byte_is_done_no_time_left_is_invented(clock):
    with capture_logs() as logs, LineMeter("uploading", 100_000_000, clock) as shown:
        clock.now += 10.0
        shown.show(0, 0)
    assert [(line["rate_mb_s"], line["left_s"]) for line in logs] == [(0.0, None)]


def test_empty_work_is_no_trouble(clock):
    with capture_logs() as logs, LineMeter("uploading", 0, clock) as shown:
        clock.now += 10.0
        shown.show(0, 0)
    assert len(logs) == 1


def test_a_person_at_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    shown = meter("uploading", 1000)
    assert isinstance(shown, BarMeter)
    with shown:
        shown.show(500, 100)
        assert shown._progress.tasks[0].completed == 500
        assert shown._progress.tasks[0].total == 1000
    assert "uploading" in terminal.getvalue()


def test_a_log_file_gets_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(meter("uploading", 1000), LineMeter)


def test_a_bar_is_taken_down_when_the_work_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = BarMeter("uploading", 1000)
    with pytest.raises(ValueError, match="failed"), bar:
        raise ValueError("failed")
    assert not bar._progress.live.is_started


def test_whoever_listens_hears_of_every_meter_made_meanwhile(clock):
    heard = []
    with progress.heard_by(lambda *told: heard.append(told)):
        with meter("uploading", 1000) as shown:
            shown.show(500, 100)
        inner = meter("again", 10)
    with meter("unheard", 1000) as shown:
        shown.show(500, 100)
    assert heard == [("uploading", 0, 1000, 0), ("uploading", 500, 1000, 100)]
    assert isinstance(inner, progress.HeardMeter)


def test_a_meter_that_is_heard_shows_all_the_same(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.heard_by(lambda *_: None), meter("uploading", 1000) as shown:
        shown.show(500, 100)
        assert shown._meter._progress.tasks[0].completed == 500
    assert not shown._meter._progress.live.is_started
