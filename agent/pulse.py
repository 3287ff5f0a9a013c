"""What a finalize is doing at this moment, for who looks from another shell: a hint, never a record.

A thread of its own writes it, once a second at most: a volume that is slow, full or gone costs the hint and
nothing else. It is not flushed to disk: after a crash of the machine nobody is at work anyway. Where nothing
moves it says so now and then: on another machine that shares the volume no kernel knows of the process.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from agent import progress
from agent.errors import AgentError, Interrupted
from agent.log import get_logger, redact
from agent.pod.marker import process_mark

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from agent.outcome import Outcome

FILE, VERSION = "pulse.json", 1
EVERY_S, STILL_S = 1.0, 10.0
_GRACE_S = 1.0  # for a last write on a volume that hangs
_RATE_OVER = 10  # of the newest moments: what was fast an hour ago says nothing of the time that is left


@dataclass(frozen=True)
class Beat:
    """One moment of a finalize; moments are ISO 8601 in UTC.

    `process` tells the process from every other that will ever have its number. `what`, the bytes and the
    rate are those of long work in the step, None where it has none. `retries` are those of this finalize so
    far. `ended` is set by the last beat, with the result or the error.
    """

    pid: int
    process: str
    begun: str
    time: str
    step: str | None = None
    since: str | None = None
    what: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    sent_bytes: int | None = None
    rate_bytes_s: int | None = None
    retries: int = 0
    ended: str | None = None
    result: str | None = None
    error: dict[str, str] | None = None


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Pulse:
    """Inside `with`, the job's folder says what this finalize does; afterwards, how it ended.

    Args:
        folder: the job's.
        outcome: tells the steps, and the result.
        retries: counted by the patience of this finalize.
        now: the time as ISO 8601.
        clock: seconds, for the rate.
    """

    def __init__(
        self,
        folder: Path,
        outcome: Outcome,
        retries: Counter[tuple[str, str]],
        now: Callable[[], str] = _utc,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._outcome, self._retries = folder / FILE, outcome, retries
        self._now, self._clock = now, clock
        self._beat = Beat(os.getpid(), process_mark(os.getpid()), now(), now())
        self._told: Beat | None = None
        self._told_at = 0.0
        self._moments: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER)
        self._silent = False
        self._guard = threading.Lock()  # bytes are told by threads of hf_xet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._heard = progress.heard_by(self.moved)

    def __enter__(self) -> Self:
        self._heard.__enter__()
        self._outcome.watchers.append(self.step)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outcome.watchers.remove(self.step)
        self._heard.__exit__(kind, error, trace)
        self._over.set()
        self._thread.join(_GRACE_S)
        if self._thread.is_alive():
            return  # the volume hangs: it is not waited for
        result = None if error else self._outcome.result
        self._beat = replace(self._beat, ended=self._now(), result=result, error=_told(error))
        self.write()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A watcher of the outcome: this step is under way, until the next one begins."""
        with self._guard:
            self._moments.clear()
            now, beat = self._now(), self._beat
            self._beat = Beat(beat.pid, beat.process, beat.begun, now, name, since=now)
        yield

    def moved(self, what: str, done_bytes: int, total_bytes: int, sent_bytes: int) -> None:
        """Hear of long work that moves; what it costs is an assignment."""
        with self._guard:
            self._beat = replace(
                self._beat, what=what, done_bytes=done_bytes, total_bytes=total_bytes, sent_bytes=sent_bytes
            )

    def write(self) -> None:
        """Write this moment, if it is news; where that fails it stays untold."""
        with self._guard:
            retries = max(self._told.retries if self._told else 0, sum(self._retries.copy().values()))
            beat = replace(self._beat, rate_bytes_s=self._rate(), retries=retries)
        if beat == self._told and self._clock() - self._told_at < STILL_S:
            return
        self._told, self._told_at = beat, self._clock()
        try:
            self._replace({"version": VERSION, **asdict(beat), "time": self._now()})
        except (OSError, ValueError) as error:
            if not self._silent:
                get_logger().debug("other shells cannot be told what happens here", because=str(error))
            self._silent = True

    def _run(self) -> None:
        self.write()
        while not self._over.wait(EVERY_S):
            self.write()

    def _rate(self) -> int | None:
        done = self._beat.done_bytes
        if done is None:
            return None
        self._moments.append((self._clock(), done))
        (first_s, first), (last_s, last) = self._moments[0], self._moments[-1]
        return round((last - first) / (last_s - first_s)) if last_s > first_s else None

    def _replace(self, document: dict[str, object]) -> None:
        new = self._path.with_name(f".{FILE}.new")  # one name: a crash leaves one of them, not one each
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(redact(json.dumps(document)))
        new.replace(self._path)


def _told(error: BaseException | None) -> dict[str, str] | None:
    if isinstance(error, AgentError):
        return {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, Interrupted):
        return {"code": error.code, "message": str(error), "hint": "Run the same command to continue."}
    if error:
        return {"code": "bug", "message": f"{type(error).__name__}: {error}", "hint": "Please report it."}
    return None
