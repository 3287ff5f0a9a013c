"""A first publish: nothing is known to the Hub, nothing is cached."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import folders, limits
from bench.cost import charge
from bench.jobs import jobs_app
from bench.measure import Row, in_turns, row
from bench.settings import gigabytes, speed
from bench.sides import (
    FINALIZE,
    HF_UPLOAD,
    PLAIN,
    UPLOAD_FOLDER,
    finalize,
    first,
    hf_upload,
    plain_script,
)
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.sandbox.jobs_app import JobsApp
    from bench.child import Cost
    from bench.settings import Settings

MOST_MB = 450
_CPU = Target(times=1.15, plus=2.5)
_NAMES = (FINALIZE, HF_UPLOAD)


def cold(settings: Settings) -> Iterator[Row]:
    """At a given bandwidth and at none, against what people run instead, and against what is possible.

    Ours checks the model, proves it on the Hub, tells its row and draws its card; the plain script tells
    its row.
    """
    with (
        folders.one_file_model(settings.tmp, settings.size_mb, logged=True) as folder,
        jobs_app() as app,
    ):
        yield from _limited(settings, folder, app)
        yield from _unlimited(settings, folder, app)


def _limited(settings: Settings, folder: Path, app: JobsApp) -> Iterator[Row]:
    rate = settings.rate_mb_s
    publish = partial(first, tmp=settings.tmp, folder=folder, rate_mb_s=rate)
    runs = in_turns(
        settings.runs,
        partial(publish, finalize, app=app),
        partial(publish, hf_upload),
        partial(publish, plain_script),
        partial(publish, plain_script, app=app),
    )
    what = f"publish {gigabytes(settings.size_mb)} {speed(rate)}"
    yield charge(runs, "wall_s", "cold", what, _NAMES, target=Target(times=1.05))
    yield from _resources(runs, what)
    yield charge(runs, "wall_s", "cold", what, (FINALIZE, UPLOAD_FOLDER), sides=(0, 2))
    yield charge(runs, "wall_s", "cold", what, (FINALIZE, PLAIN), sides=(0, 3))
    least = limits.transfer_s(limits.size_mb(folder), rate)
    yield row("cold", what, "s", (FINALIZE, "bytes / bandwidth"), [(ours.wall_s, least) for ours, *_ in runs])


def _unlimited(settings: Settings, folder: Path, app: JobsApp) -> Iterator[Row]:
    publish = partial(first, tmp=settings.tmp, folder=folder, rate_mb_s=None)
    runs = in_turns(settings.runs, partial(publish, finalize, app=app), partial(publish, hf_upload))
    what = f"publish {gigabytes(settings.size_mb)} unthrottled"
    yield charge(runs, "wall_s", "cold", what, _NAMES, target=Target(times=1.15))
    yield from _resources(runs, what)
    weights = folder / folders.WEIGHTS
    read = [(ours.wall_s, limits.hash_s(weights)) for ours, *_ in runs]
    yield row("cold", what, "s", (FINALIZE, "one read with sha256"), read)


def _resources(runs: list[tuple[Cost, ...]], what: str) -> Iterator[Row]:
    yield charge(runs, "cpu_s", "cold", f"processor time: {what}", _NAMES, target=_CPU)
    yield charge(runs, "peak_mb", "cold", f"peak memory: {what}", _NAMES, target=Target(most=MOST_MB))
