"""What a training pays for the upload that goes on beside it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import folders, limits
from bench.jobs import jobs_app
from bench.measure import Row, in_turns, row
from bench.settings import gigabytes, speed
from bench.target import Target
from bench.trained import training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.sandbox.jobs_app import JobsApp
    from bench.settings import Settings

_SHORTEST_S = 5.0
_BEGUN = 0.05  # of the bytes have come in
_MOST_TIMES = 1.03


def slowed(settings: Settings) -> Iterator[Row]:
    """A step of a training that needs all cores, with the upload beside it and without.

    In a pod Hub and network are elsewhere; here the Hub shares the cores, so it is as nice as the upload.
    """
    seconds = max(_SHORTEST_S, settings.size_mb / settings.rate_mb_s / 2)
    with (
        folders.one_file_model(settings.tmp, settings.size_mb, logged=True) as model,
        jobs_app() as app,
    ):
        busy = partial(_busy, settings, app, model, seconds)
        pairs = in_turns(settings.runs, partial(busy, "on"), partial(busy, "off"))
    size = f"{gigabytes(settings.size_mb)} {speed(settings.rate_mb_s)}"
    what = f"a step on all cores, {size} beside it, Hub at nice 19"
    names = ("AGENT_WARM=on", "AGENT_WARM=off")
    steps = [(ours[0], theirs[0]) for ours, theirs in pairs]
    yield row("training", what, "ms", names, steps, target=Target(times=_MOST_TIMES))
    sent = [(ours[1], settings.size_mb) for ours, _ in pairs]
    yield row("training", "uploaded while all cores were busy", "MB", (names[0], "all of it"), sent)


def _busy(settings: Settings, app: JobsApp, model: Path, seconds: float, switch: str) -> tuple[float, float]:
    """Milliseconds of a step, and megabytes that went up while all cores were busy.

    The upload is under way when the cores become busy; what comes after them is cut off.
    """
    with training(settings, app, settings.rate_mb_s, humble_hub=True) as trained:
        trained.start("busy", model, str(seconds), AGENT_WARM=switch)
        if switch == "on":
            trained.await_upload(_BEGUN * limits.size_mb(model) * folders.MEGA)
        before = trained.hub.look().received_bytes
        trained.go_on()
        steps = trained.await_notes()["steps"]
        sent_mb = (trained.hub.look().received_bytes - before) / folders.MEGA
    return 1000 * seconds / steps, sent_mb
