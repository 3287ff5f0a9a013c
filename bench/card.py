"""What the card and its plots cost."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import folders
from bench.cost import charge
from bench.measure import Row, in_turns
from bench.settings import gigabytes, speed
from bench.sides import finalize, first
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.child import Cost
    from bench.settings import Settings

_NAMES = ("with them", "without")


def card(settings: Settings) -> Iterator[Row]:
    """A first publish of a model with the log of its training, against one whose card has nothing to draw."""
    rate = settings.fast_mb_s

    def publish(folder: Path, *, logged: bool) -> Cost:
        (folder / folders.LOG).unlink(missing_ok=True)
        if logged:
            folders.write_log(folder)
        return first(finalize, settings.tmp, folder, rate)

    with folders.one_file_model(settings.tmp, settings.size_mb) as folder:
        runs = in_turns(
            settings.runs, partial(publish, folder, logged=True), partial(publish, folder, logged=False)
        )
    what = f"card and plots, {gigabytes(settings.size_mb)} {speed(rate)}"
    yield charge(runs, "wall_s", "card", what, _NAMES, target=Target(times=1.02))
    yield charge(runs, "cpu_s", "card", "their processor time", _NAMES)
    yield charge(runs, "peak_mb", "card", "their peak memory", _NAMES)
