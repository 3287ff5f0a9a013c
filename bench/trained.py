"""One training under `run`: a stand-in trains, a background process uploads, the end is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import limits, stored
from bench.child import BenchError, python
from bench.folders import WEIGHTS
from bench.hub import hub_process
from bench.jobs import begin, completed_at
from bench.sides import agent_environ, fresh_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from agent.sandbox.jobs_app import JobsApp
    from bench.hub import HubProcess
    from bench.settings import Settings

_LOOK_EVERY_S = 0.02
_WARM_WITHIN_S = 600
_LAST_BYTES = 2000
# The stand-in has a process for each core: with threads of a matrix library on top they would wait in line.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Tail:
    """The time from the trainer's last act to the completed row, what was sent after it, and the limits."""

    tail_s: float
    content_bytes: int
    hash_s: float
    read_s: float


class Training:
    """A `run` under way.

    Attributes:
        hub: where it publishes.
        warm: what the background upload says of itself, once it does.
    """

    def __init__(self, home: Path, hub: HubProcess, app: JobsApp, said: IO[bytes]) -> None:
        self.home, self.hub, self._app, self._said = home, hub, app, said
        self._job = job = begin(app, hub.endpoint, status="pending")
        self.output = home / "out"
        self._gate, self._notes = home / "gate", home / "notes.json"
        self.warm = home / "state" / job["JOB_ID"] / "warm.json"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, how: str, model: Path, *rest: str, **environ: str) -> None:
        """Begin to train; see `bench.trainer`."""
        env = agent_environ(self.home, self.hub.endpoint, self.output, job=self._job)
        trainer = python("-m", "bench.trainer", how, str(model), str(self._gate), str(self._notes), *rest)
        self._process = subprocess.Popen(
            [*python("-m", "agent", "run", "--"), *trainer],
            env=env | _ONE_THREAD | environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def await_warm(self) -> None:
        """Return once the background has brought everything to the Hub.

        Raises:
            BenchError: it does not within ten minutes, or `run` ended before.
        """
        over = time.monotonic() + _WARM_WITHIN_S
        while not (self.warm.exists() and json.loads(self.warm.read_text()).get("done")):
            if time.monotonic() > over or (self._process and self._process.poll() is not None):
                raise BenchError(f"nothing was uploaded while it trained:\n{self._words()}")
            time.sleep(_LOOK_EVERY_S)

    def await_upload(self, count: float) -> None:
        """Return once the background has sent so many bytes.

        Raises:
            BenchError: `run` ended before.
        """
        if self._process:
            self.hub.await_bytes(count, self._process)

    def await_notes(self) -> dict[str, float]:
        """What the trainer notes as its last act.

        Raises:
            BenchError: `run` ended without it.
        """
        while not self._notes.exists():
            if self._process and self._process.poll() is not None:
                raise BenchError(f"the training left no notes:\n{self._words()}")
            time.sleep(_LOOK_EVERY_S)
        notes: dict[str, float] = json.loads(self._notes.read_text())
        return notes

    def go_on(self) -> None:
        """Let the trainer end."""
        self._gate.touch()

    def finish(self) -> float:
        """Wait for the end of `run`, and return at what time the row was completed.

        Raises:
            BenchError: it failed, or the job's row did not hear of it.
        """
        exit_code = self._process.wait() if self._process else 0
        if exit_code:
            raise BenchError(f"run ended with {exit_code}:\n{self._words()}")
        return completed_at(self._app, self._job)

    def kill(self) -> None:
        """End what is still there."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def _words(self) -> str:
        self._said.seek(0)
        return self._said.read()[-_LAST_BYTES:].decode(errors="replace")


@contextmanager
def training(
    settings: Settings, app: JobsApp, rate_mb_s: float | None, *, humble_hub: bool = False
) -> Iterator[Training]:
    """A pod and a Hub in which nothing is known yet, for one training."""
    home = fresh_home(settings.tmp)
    with tempfile.TemporaryFile() as said, hub_process(settings.tmp, rate_mb_s, humble=humble_hub) as hub:
        trained = Training(home, hub, app, said)
        try:
            yield trained
        finally:
            trained.kill()
    shutil.rmtree(home)


def tail(settings: Settings, app: JobsApp, how: str, model: Path, rate_mb_s: float) -> Tail:
    """Train, upload meanwhile, and measure what is left to do when the trainer has ended.

    The Hub takes what it can while the training goes on, and `rate_mb_s` from then on.
    """
    with training(settings, app, rate_mb_s) as trained:
        trained.hub.limit(None)
        trained.start(how, model)
        trained.await_warm()
        trained.hub.limit(rate_mb_s)
        seen = trained.hub.count()
        trained.go_on()
        completed_at = trained.finish()
        sent = stored.content_bytes(trained.hub, seen)
        weights = trained.output / WEIGHTS
        tail_s = completed_at - trained.await_notes()["ended_at"]
        return Tail(tail_s, sent, limits.hash_s(weights), limits.read_s(weights))
