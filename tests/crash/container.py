"""A container of RunPod's: a process tree whose first process is ours, and which dies as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LONGEST_S = 90.0
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"]
if os.geteuid() != 0:
    UNSHARE += ["--user", "--map-root-user"]


class Container:
    """A process namespace of its own; what the host's /proc shows of it is found by the variable `mark`."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*UNSHARE, *command],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def first(self) -> int:
        """Its first process, as the host numbers it."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.until(lambda: path.read_text().split())
        return int(path.read_text().split()[0])

    @property
    def said(self) -> str:
        return self._log.read_text()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what is about to happen inside.

        Raises:
            AssertionError: it ended, or took too long.
        """
        over = time.monotonic() + LONGEST_S
        while True:
            is_up = self.is_up()  # asked first: what happened may have been its end
            if condition():
                return
            assert is_up, f"the container ended:\n{self.said}"
            assert time.monotonic() < over, f"it did not happen:\n{self.said}"
            time.sleep(0.005)

    def kill(self) -> None:
        """End everything in it at once, as a crash of the host does."""
        with suppress(OSError):
            os.kill(self.first, signal.SIGKILL)
        self._process.wait(LONGEST_S)

    def signal(self, signum: int) -> int:
        """Send a signal to the first process and return the container's exit code."""
        os.kill(self.first, signum)
        return self._process.wait(LONGEST_S)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(LONGEST_S)

    def is_up(self) -> bool:
        return self._process.poll() is None


def agent_command(*args: str) -> list[str]:
    return [sys.executable, "-m", "agent", *args]


def agent_path() -> str:
    """What a container imports: the agent, an embedded RunPod for the real one, and no matplotlib."""
    tests = ROOT / "tests"
    return os.pathsep.join(map(str, (tests / "at_runpod", tests / "without_matplotlib", ROOT)))
