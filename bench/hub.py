"""The embedded Hub as a process of its own, so that neither side pays for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.child import BenchError, clean_env, python

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, TOKEN = "ada", "hf_bench"
_STOP_S = 20
_LOOK_EVERY_S = 0.005
# Where the kernel groups processes by session, niceness counts only within one; the group has its own.
_HUMBLY = ["sh", "-c", '{ echo 19 > /proc/self/autogroup; } 2> /dev/null; exec nice -n 19 "$@"', "sh"]


@dataclass(frozen=True)
class Seen:
    """What the Hub has received: all bytes, also of requests under way, and the requests asked for."""

    received_bytes: int
    requests: list[dict[str, Any]]


class HubProcess:
    """A running Hub, and what it can be asked and told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.endpoint: str = self._answer()["endpoint"]

    def limit(self, rate_mb_s: float | None) -> None:
        """Change the upload bandwidth; None lifts the limit."""
        self._order(f"rate {rate_mb_s or 0}")

    def look(self, since: int = 0) -> Seen:
        """What it has received, with its requests from a number on."""
        return Seen(**self._order(f"look {since}"))

    def count(self) -> int:
        """How many requests it has answered."""
        return len(self.look().requests)

    def await_bytes(self, count: float, sender: subprocess.Popen[bytes]) -> None:
        """Return once so many bytes have come in.

        Raises:
            BenchError: the sender ended before.
        """
        while self.look(_NONE).received_bytes < count:
            if sender.poll() is not None:
                raise BenchError(f"{sender.args!r} ended with {sender.returncode} before {count:g} bytes")
            time.sleep(_LOOK_EVERY_S)

    def _order(self, line: str) -> dict[str, Any]:
        if self._process.stdin:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise BenchError("the embedded Hub did not start, or ended; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer


_NONE = 10**9  # no request has this number


@contextmanager
def hub_process(tmp: Path, rate_mb_s: float | None, *, humble: bool = False) -> Iterator[HubProcess]:
    """Run a fresh Hub while inside; all it stored is removed afterwards.

    Args:
        tmp: where its content is kept.
        rate_mb_s: upload bandwidth; None does not limit it.
        humble: with the lowest priority, so that it takes next to nothing from what is measured.

    Raises:
        BenchError: it does not start.
    """
    root = Path(tempfile.mkdtemp(dir=tmp, prefix="hub-"))
    command = python("-m", "agent.sandbox.hub", "--port", "0", "--root", str(root), "--user", USER)
    command += ["--token", TOKEN]
    if rate_mb_s:
        command += ["--rate-mb-s", str(rate_mb_s)]
    process = subprocess.Popen(
        [*(_HUMBLY if humble else []), *command],
        env=clean_env(root),
        cwd=tmp,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=humble,
    )
    try:
        yield HubProcess(process)
    finally:
        if process.stdin:
            process.stdin.close()  # its sign to stop
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        shutil.rmtree(root, ignore_errors=True)
