"""Showing that long work moves: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, Self

from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from rich.progress import Progress

    Listener = Callable[[str, int, int, int], None]

LINE_EVERY_S = 10.0
MEGA = 1_000_000
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Meter(Protocol):
    """Something that is told how many of `total` bytes are done."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, done_bytes: int, sent_bytes: int) -> None:
        """Tell the bytes done so far, and how many of them really went over the wire."""
        ...


class BarMeter:
    """A rich progress bar on stderr with bytes, rate and time left."""

    def __init__(self, what: str, total_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(what, total=total_bytes)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done_bytes: int, sent_bytes: int) -> None:  # noqa: ARG002 - the bar shows what is done
        """Move the bar."""
        self._progress.update(self._task, completed=done_bytes)


class LineMeter:
    """A log line every ten seconds, none for work that is shorter."""

    def __init__(self, what: str, total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._clock = what, total_bytes, clock
        self._started = self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, done_bytes: int, sent_bytes: int) -> None:
        """Log a line if the last one is ten seconds old."""
        now = self._clock()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        rate = done_bytes / max(now - self._started, 0.001)
        get_logger().info(
            self._what,
            done_mb=round(done_bytes / MEGA),
            of_mb=round(self._total / MEGA),
            sent_mb=round(sent_bytes / MEGA),
            rate_mb_s=round(rate / MEGA, 1),
            left_s=round((self._total - done_bytes) / rate) if rate else None,
        )


class HeardMeter:
    """A meter that somebody beside the person or the log hears of."""

    def __init__(self, meter: Meter, what: str, total_bytes: int, listener: Listener) -> None:
        self._meter, self._what, self._total, self._listener = meter, what, total_bytes, listener

    def __enter__(self) -> Self:
        self._meter.__enter__()
        self._listener(self._what, 0, self._total, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.__exit__(kind, error, trace)

    def show(self, done_bytes: int, sent_bytes: int) -> None:
        """Show it, and tell it."""
        self._meter.show(done_bytes, sent_bytes)
        self._listener(self._what, done_bytes, self._total, sent_bytes)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let `listener` hear of every meter that is made in here: what is done, done, total and sent bytes."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def meter(what: str, total_bytes: int) -> Meter:
    """A bar if a person is watching stderr, else log lines; whoever listens hears of it, too."""
    shown = BarMeter(what, total_bytes) if sys.stderr.isatty() else LineMeter(what, total_bytes)
    listener = _listener.get()
    return HeardMeter(shown, what, total_bytes, listener) if listener else shown
