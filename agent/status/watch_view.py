"""What `status --watch` shows: a live view on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TextIO

import click

from agent.status.view import at_work, event_line, nothing_known, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from rich.console import RenderableType

    from agent.status.jobs import Status
    from agent.status.standing import Standing

_WAITING = "Waiting for a finalize to begin; Ctrl-C ends the wait."
_WIDTH = 60  # of a bar
_LINE_EVERY_S, _PARTS = 10.0, 10  # of a long upload there is a line for each tenth, and one now and then


class LineScreen:
    """A line for each change: a step, an event, a tenth of the bytes.

    Args:
        out: where the lines go.
        clock: seconds, for what moves slowly.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._shown: set[str] = set()
        self._moments: dict[str, tuple[object, ...]] = {}
        self._lines: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, answer: Status) -> None:
        """Print what is new."""
        if not answer.jobs:
            self._once(f"{nothing_known(answer)} {_WAITING}")
        for job in answer.jobs:
            name = f"{job.job}  " if answer.job is None else ""
            for entry in job.steps:
                self._once(f"{name}{event_line(entry)}")
            if job.now and self._is_news(job.job, job.now):
                self._say(f"{name}{at_work(job)}")

    def _is_news(self, job: str, now: Mapping[str, Any]) -> bool:
        moment = (now["step"], now["since"], _part(now), now["retries"])
        is_old = self._clock() - self._lines.get(job, -_LINE_EVERY_S) >= _LINE_EVERY_S
        if self._moments.get(job) == moment and not (is_old and now["done_bytes"] is not None):
            return False
        self._moments[job], self._lines[job] = moment, self._clock()
        return True

    def _once(self, line: str) -> None:
        if line not in self._shown:
            self._shown.add(line)
            self._say(line)

    def _say(self, line: str) -> None:
        click.echo(words(line), file=self._out)
        self._out.flush()


class LiveScreen:
    """Every job that somebody is at work on, drawn over itself; gone when the work is over."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=out), auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, answer: Status) -> None:
        """Draw how they stand now."""
        from rich.console import Group
        from rich.text import Text

        drawn = [part for job in answer.jobs if job.at_work for part in _drawn(job)]
        if not answer.jobs:
            drawn = [Text(words(f"{nothing_known(answer)} {_WAITING}"))]
        self._live.update(Group(*drawn), refresh=True)


def _drawn(job: Standing) -> Iterator[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    yield Text(words(job.job), style="bold")
    yield from (Text(words(event_line(entry)), style="dim") for entry in job.steps)
    yield Text(words(at_work(job)))
    if job.now and _part(job.now) is not None:
        bar = Table.grid()  # alone a bar ends no line
        bar.add_row(ProgressBar(total=job.now["total_bytes"], completed=job.now["done_bytes"], width=_WIDTH))
        yield bar


def _part(now: Mapping[str, Any]) -> int | None:
    """How many tenths of the bytes are done."""
    done, total = now["done_bytes"], now["total_bytes"]
    return done * _PARTS // total if isinstance(done, int) and isinstance(total, int) and total > 0 else None
