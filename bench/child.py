"""One measured process: started alone, waited for, and charged with what the kernel says it used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPO_ROOT = Path(__file__).resolve().parent.parent
_LAST_BYTES = 2000


class BenchError(Exception):
    """The benchmark cannot be carried out as asked; the message says why."""


@dataclass(frozen=True)
class Cost:
    """What one process took.

    The kernel's peak RSS of a process is never below that of the process that started it, so this
    program keeps itself small.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def clean_env(home: Path, **extra: str) -> dict[str, str]:
    """An environment that holds nothing of the caller's but PATH, for a process at home in `home`."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "PYTHONPATH": str(REPO_ROOT),
        **extra,
    }


def run(
    command: Sequence[str], env: Mapping[str, str], *, cwd: Path, expect: int = 0, quiet_disk: bool = True
) -> Cost:
    """Run a command to its end and return its cost.

    Args:
        command: program and arguments.
        env: its whole environment.
        cwd: where it runs.
        expect: the exit code it must end with.
        quiet_disk: first wait until the disk has taken what earlier processes wrote.

    Raises:
        BenchError: it ended with another exit code; its last words are quoted.
    """
    if quiet_disk:
        os.sync()
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        child = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        wall_s = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != expect:
            said.seek(max(0, said.seek(0, os.SEEK_END) - _LAST_BYTES))
            words = said.read().decode(errors="replace")
            raise BenchError(f"{' '.join(command)} ended with {child.returncode}, not {expect}:\n{words}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def python(*arguments: str) -> list[str]:
    """The command line of this interpreter with arguments."""
    return [sys.executable, *arguments]
