"""From the trainer's exit to `completed`: what is left to do when most was done while it trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench import folders, limits
from bench.jobs import jobs_app
from bench.measure import Row, in_turns, row
from bench.settings import gigabytes, speed
from bench.sides import PLAIN, first, plain_script
from bench.target import Target
from bench.trained import Tail, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.sandbox.jobs_app import JobsApp
    from bench.settings import Settings

SIZES = (0.25, 1, 4)  # times --size-mb
STABLE, TRL = "run, files stable", "run, TRL's order"
TAIL, CONTENT = "tail, ", "content sent after the exit, "
AFTER, LIMIT, READ = f"{PLAIN} after the exit", "bytes / bandwidth", "one read with sha256"
_MOST_S = 2
_FLAT = Target(times=1.3)
_ONE_READ = Target(times=1, plus=1)


@dataclass(frozen=True)
class _Ends:
    """How one size ended at one bandwidth, run by run: both trainers, and what people do after the exit."""

    stable: list[Tail]
    trl: list[Tail]
    theirs: list[float]
    their_name: str


def warm(settings: Settings) -> Iterator[Row]:
    """Two trainers, two bandwidths, three sizes."""
    ends: dict[tuple[float, float], _Ends] = {}
    rates = (settings.rate_mb_s, settings.fast_mb_s)
    with jobs_app() as app:
        for times in SIZES:
            size = times * settings.size_mb
            with folders.one_file_model(settings.tmp, size, logged=True) as model:
                for rate in rates:
                    found = ends[size, rate] = _measure(settings, app, model, rate)
                    yield from _rows(found, f"{gigabytes(size)} {speed(rate)}", limits.size_mb(model))
                yield _passes(ends[size, rates[0]].trl, gigabytes(size))
    small, large = (times * settings.size_mb for times in (SIZES[0], SIZES[-1]))
    for rate in rates:
        both = zip(ends[large, rate].stable, ends[small, rate].stable, strict=True)
        names = (f"{STABLE}, {gigabytes(large)}", f"the same, {gigabytes(small)}")
        pairs = [(ours.tail_s, theirs.tail_s) for ours, theirs in both]
        yield row("warm", f"tail by size {speed(rate)}", "s", names, pairs, target=_FLAT)


def _measure(settings: Settings, app: JobsApp, model: Path, rate_mb_s: float) -> _Ends:
    """The biggest is compared with the limit: the plain script would need minutes, and is never faster."""
    ours = (partial(tail, settings, app, how, model, rate_mb_s) for how in ("stable", "trl"))
    size_mb = limits.size_mb(model)
    least = limits.transfer_s(size_mb, rate_mb_s)
    if size_mb > settings.size_mb * 2:
        stable, trl = zip(*in_turns(settings.runs, *ours), strict=True)
        return _Ends([*stable], [*trl], [least] * settings.runs, LIMIT)

    def theirs() -> float:
        return first(plain_script, settings.tmp, model, rate_mb_s, app=app).wall_s

    sides: tuple[Callable[[], Tail | float], ...] = (*ours, theirs)
    stable, trl, after = zip(*in_turns(settings.runs, *sides), strict=True)
    return _Ends([*stable], [*trl], [*after], AFTER)


def _passes(tails: list[Tail], size: str) -> Row:
    passes = [(one.hash_s, one.read_s) for one in tails]
    return row("warm", f"the file of {size}", "s", (READ, "read alone"), passes)


def _rows(ends: _Ends, size: str, size_mb: float) -> Iterator[Row]:
    what, theirs = f"{TAIL}{size}", ends.their_name
    stable = [(one.tail_s, after) for one, after in zip(ends.stable, ends.theirs, strict=True)]
    yield row("warm", what, "s", (STABLE, theirs), stable, target=Target(most=_MOST_S))
    trl = [(one.tail_s, after) for one, after in zip(ends.trl, ends.theirs, strict=True)]
    yield row("warm", what, "s", (TRL, theirs), trl)
    read = [(one.tail_s, one.hash_s) for one in ends.trl]
    yield row("warm", what, "s", (TRL, READ), read, target=_ONE_READ)
    for name, tails in ((STABLE, ends.stable), (TRL, ends.trl)):
        sent = [(one.content_bytes / folders.MEGA, size_mb) for one in tails]
        what = f"{CONTENT}{size}"
        yield row("warm", what, "MB", (name, "all of it"), sent, target=Target(most=0))
