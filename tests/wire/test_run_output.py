"""Trainings that misbehave: what they print, hold open or ignore costs the run neither time nor memory."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.pod import child as children
from agent.pod.child import Child
from agent.pod.output import TrainingLog
from tests.conftest import FIXTURES, ROOT

GIGA = 1_000_000_000
TRAINER = ROOT / "tests" / "trainer.py"


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal():
    """A child of a shell's background, or of nohup, is born deaf to some, and stays so on purpose."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {signum: signal.signal(signum, handler) for signum, handler in usual.items()}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def peak_mb(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1000


def has_loaded_its_clients(pid):
    """What `run` makes ready for the end takes memory, sooner or later; hf_xet is the last of it."""
    return "hf_xet" in Path(f"/proc/{pid}/maps").read_text()


def await_output(path, process, within_s=120):
    over = time.monotonic() + within_s
    while not (path.exists() and "printed" in path.read_text() and has_loaded_its_clients(process.pid)):
        assert process.poll() is None
        assert time.monotonic() < over
        time.sleep(0.01)


def peak_of_a_run_that_prints(size, pod, tmp_path):
    """The peak of `run` in MB when its training has printed so much and still runs; then it ends."""
    home = tmp_path / str(size)
    home.mkdir()
    diary, gate = home / "diary", home / "gate"
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(home)}
    environ |= pod.environ(home / "out") | {"AGENT_STATE_DIR": str(home / "state")}
    trainer = [sys.executable, str(TRAINER), str(diary), f"print={size}", "env=printed", f"wait={gate}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--", *trainer, f"save={FIXTURES / 'sft_lora'}"],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    await_output(diary, process)
    peak = peak_mb(process.pid)
    gate.touch()
    assert process.wait(120) == 0
    kept = sum(path.stat().st_size for path in (home / "state").rglob("training.log*"))
    return peak, kept


def test_a_gigabyte_of_output_costs_no_memory_and_little_disk(pod, tmp_path):
    little, _ = peak_of_a_run_that_prints(1_000, pod, tmp_path)
    much, kept = peak_of_a_run_that_prints(GIGA, pod, tmp_path)
    assert much < little + 8
    assert kept < 17_000_000


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """`trainer(*deeds)` is a child that trains; its diary is `tmp_path / "diary"`."""
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "out"))
    monkeypatch.setattr(children, "_LOOK_EVERY_S", 0.02)

    def make(*deeds):
        log = TrainingLog(tmp_path / "training.log")
        command = [sys.executable, str(TRAINER), str(tmp_path / "diary"), *deeds]
        environ = {"OUTPUT_DIR": str(tmp_path / "out")}
        return Child(command, environ, reports=tmp_path, log=log, stdout=sys.stderr.fileno())

    return make


def test_a_training_that_ignores_sigterm_is_killed_after_its_grace(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(children, "GRACE_S", 0.2)
    child = trainer("deaf", "say=ready", f"wait={tmp_path / 'never'}")
    begun = time.monotonic()

    def look():
        if "ready" in (tmp_path / "training.log").read_text() and child.signalled is None:
            signal.raise_signal(signal.SIGTERM)

    assert child.run(started=lambda _: None, look=look) == 137
    assert child.signalled == signal.SIGTERM
    assert time.monotonic() - begun < 20


def test_a_second_signal_does_not_wait_for_the_grace(trainer, tmp_path):
    child = trainer("deaf", "say=ready", f"wait={tmp_path / 'never'}")
    sent = []

    def look():
        if "ready" in (tmp_path / "training.log").read_text() and len(sent) < 2:
            sent.append(signal.raise_signal(signal.SIGINT))

    assert child.run(started=lambda _: None, look=look) == 137
    assert len(sent) == 2


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_other_signals_are_passed_on_and_stop_nothing_by_themselves(trainer, tmp_path, signum):
    child = trainer("say=ready", f"wait={tmp_path / 'never'}")
    sent = []

    def look():
        if "ready" in (tmp_path / "training.log").read_text() and not sent:
            sent.append(signal.raise_signal(signum))

    assert child.run(started=lambda _: None, look=look) == 128 + signum
    assert child.signalled is None


def test_a_signal_that_was_to_be_ignored_stays_ignored(trainer, monkeypatch, tmp_path):
    """`nohup` is a word of the user's."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        child = trainer("say=ready")
        seen = []
        child.run(started=lambda _: seen.append(signal.getsignal(signal.SIGHUP)), look=lambda: None)
        assert seen == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_before_are_back_afterwards(trainer):
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    trainer().run(started=lambda _: None, look=lambda: None)
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_what_fails_while_it_is_watched_stops_the_training(trainer, tmp_path):
    child = trainer("gentle", "say=ready", f"wait={tmp_path / 'never'}")

    def look():
        if "ready" in (tmp_path / "training.log").read_text():
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        child.run(started=lambda _: None, look=look)
    assert "gentle" in (tmp_path / "diary").read_text()


def test_a_training_has_no_stdin_to_ask_questions_on(trainer, tmp_path):
    log = TrainingLog(tmp_path / "log")
    command = [sys.executable, "-c", "print(repr(input()))"]
    child = Child(command, {}, reports=tmp_path, log=log, stdout=sys.stderr.fileno())
    assert child.run(started=lambda _: None, look=lambda: None) == 1
    assert "EOFError" in log.last_lines[-1]


@pytest.mark.parametrize(("deed", "code"), [("kill=9", 137), ("kill=11", 139), ("exit=7", 7), ("exit=0", 0)])
def test_the_exit_code_is_as_a_shell_reports_it(trainer, deed, code):
    assert trainer(deed).run(started=lambda _: None, look=lambda: None) == code
