"""Peak memory, which has a limit that no model goes beyond."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from bench import folders
from bench.cold import MOST_MB
from bench.cost import charge
from bench.measure import Row, in_turns
from bench.settings import gigabytes, speed
from bench.sides import FINALIZE, HF_UPLOAD, finalize, first, hf_upload
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.settings import Settings

_SIZES = (0.5, 2, 8)  # times --size-mb
_SHARDS = 8
_MOST = Target(most=MOST_MB)


def memory(settings: Settings) -> Iterator[Row]:
    """Of bigger and bigger models, with no limit on bandwidth and with one.

    What waits to be sent waits in memory: both matter.
    """
    sizes = [times * settings.size_mb for times in _SIZES]
    with ExitStack() as stack:
        small, middle, large = (
            stack.enter_context(folders.one_file_model(settings.tmp, size)) for size in sizes
        )
        publish = partial(first, finalize, settings.tmp)
        runs = in_turns(
            settings.runs,
            partial(publish, small, None),
            partial(publish, middle, None),
            partial(publish, large, None),
            partial(first, hf_upload, settings.tmp, middle, None),
        )
        rate = settings.fast_mb_s
        limited = in_turns(
            settings.runs, partial(publish, large, rate), partial(first, hf_upload, settings.tmp, small, rate)
        )
    rows = partial(charge, cost="peak_mb", group="memory")
    words = [gigabytes(size) for size in sizes]
    beside = (FINALIZE, f"{HF_UPLOAD}, {words[1]}")
    for number in (0, 1):
        yield rows(runs, what=f"{words[number]} unthrottled", names=beside, target=_MOST, sides=(number, 3))
    smaller = (FINALIZE, f"{FINALIZE}, {words[1]}")
    yield rows(runs, what=f"{words[2]} unthrottled", names=smaller, target=_MOST, sides=(2, 1))
    beside = (FINALIZE, f"{HF_UPLOAD}, {words[0]}")
    yield rows(limited, what=f"{words[2]} {speed(rate)}", names=beside, target=_MOST)


def shards(settings: Settings) -> Iterator[Row]:
    """Peak memory of a model in many files: every open one may hold something back."""
    rate = settings.fast_mb_s
    with folders.sharded_model(settings.tmp, _SHARDS, settings.size_mb) as folder:
        runs = in_turns(
            settings.runs,
            partial(first, finalize, settings.tmp, folder, rate),
            partial(first, hf_upload, settings.tmp, folder, rate),
        )
    what = f"{gigabytes(settings.size_mb)} in {_SHARDS} shards {speed(rate)}"
    yield charge(runs, "peak_mb", "shards", what, (FINALIZE, HF_UPLOAD), target=_MOST)
