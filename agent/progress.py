"""Showing that long work moves: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, Self

from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress

LINE_EVERY_S = 10.0
MEGA = 1_000_000


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


def meter(what: str, total_bytes: int) -> Meter:
    """A bar if a person is watching stderr, else log lines."""
    return BarMeter(what, total_bytes) if sys.stderr.isatty() else LineMeter(what, total_bytes)
