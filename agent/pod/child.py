"""The training as a child: in a session of its own, its output passed through, its end never missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.log import get_logger
from agent.pod.autopsy import NOT_EXECUTABLE, NOT_FOUND, SIGNALLED
from agent.pod.output import Stream, TrainingLog
from agent.pod_config import UNDER_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

GRACE_S = 30.0  # for a training that is to stop: time to save what it has
_LOOK_EVERY_S = 0.5
_LAST_OUTPUT_S = 0.5  # for what is still in the pipe when the training has ended
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Child:
    """One training; everything it starts carries the variable that `reports` is the value of.

    Args:
        command: what to run.
        environ: its environment.
        reports: a folder that nobody else uses.
        log: where its output is kept.
        stdout: where its output goes, as a file descriptor; what it says on stderr goes to ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        reports: Path,
        log: TrainingLog,
        stdout: int,
    ) -> None:
        self._command, self._log, self._stdout = command, log, stdout
        self._environ = {"PYTHONUNBUFFERED": "1"} | dict(environ) | {UNDER_RUN: str(reports)}
        self._process: subprocess.Popen[bytes] | None = None
        self._mark = f"{UNDER_RUN}={reports}".encode()
        self._signals = 0
        self.signalled: int | None = None

    def run(self, *, started: Callable[[int], None], look: Callable[[], None]) -> int:
        """Run it to its end and return its exit code, as a shell would report it.

        SIGTERM and SIGINT are passed on, and `signalled` tells the first of them; a second one kills it, as
        does a grace that is over.

        Args:
            started: called with its process id.
            look: called every now and then; what it raises stops the training and is raised.
        """
        self._log.begin()
        with self._passing_signals_on():
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                    self._command,
                    env=self._environ,
                    stdin=subprocess.DEVNULL,  # whoever asks a question here would wait for ever
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                words = f"{self._command[0]}: {error.strerror or error}"
                self._log.add(words.encode("utf-8", "replace") + b"\n")
                return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            with self._streams(self._process):
                try:
                    started(self._process.pid)
                    code = self._wait(self._process, look)
                except BaseException:
                    self._stop(self._process)
                    raise
        return SIGNALLED - code if code < 0 else code

    def kill(self) -> None:
        """End it with everything it started, also what left its process group."""
        self._send(signal.SIGKILL)
        for pid in self._family():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _wait(self, process: subprocess.Popen[bytes], look: Callable[[], None]) -> int:
        over = None
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_EVERY_S)
            if os.getpid() == 1:
                _bury_strangers(process.pid)
            look()
            if self.signalled is not None:
                over = over or time.monotonic() + GRACE_S
                if self._signals > 1 or time.monotonic() > over:
                    self.kill()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to stop, and after a grace end it with everything it started."""
        self._send(signal.SIGTERM)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            get_logger().warning("the training does not stop; ending it", grace_s=GRACE_S)
        self.kill()
        process.wait()

    @contextmanager
    def _streams(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        assert process.stdout
        assert process.stderr
        ours = ((process.stdout, self._stdout), (process.stderr, sys.stderr.fileno()))
        streams = [Stream(os.dup(pipe.fileno()), sink, self._log) for pipe, sink in ours]
        process.stdout.close()
        process.stderr.close()
        try:
            yield
        finally:
            for stream in streams:
                stream.settle(_LAST_OUTPUT_S)

    @contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        def pass_on(signum: int, _frame: FrameType | None) -> None:
            if signum in _STOPPING:
                self._signals += 1
                self.signalled = self.signalled or signum
            self._send(signum)

        heard = [one for one in (*_STOPPING, *_PASSED_ON) if signal.getsignal(one) is not signal.SIG_IGN]
        before = {signum: signal.signal(signum, pass_on) for signum in heard}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _send(self, signum: int) -> None:
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signum)

    def _family(self) -> list[int]:
        """Every process that carries our mark: daemons of the training belong to nobody else."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found


def _bury_strangers(ours: int) -> None:
    """Reap what was left to us as the first process of the container, but not our own child."""
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid == ours:
                return
            os.waitpid(found.si_pid, 0)
