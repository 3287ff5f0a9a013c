"""`status --watch`: what happens now, shown until nobody is at work any more. It only ever reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TextIO

from agent.status.jobs import look
from agent.status.watch_view import LineScreen, LiveScreen

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from agent.config import Config
    from agent.status.jobs import Status

EVERY_S = 0.25
_SETTLED = 2  # looks that show nothing new: between two turns of `run` nobody is at work for a moment


class Screen(Protocol):
    """Where a person, or who reads our output, sees how the jobs stand."""

    def show(self, answer: Status) -> None:
        """Show how they stand now."""
        ...


def watching(
    config: Config, answer: Status, out: TextIO, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show what happens until nobody is at work; if nothing was ever done, wait for it to begin.

    Args:
        config: where to look, and for what.
        answer: in the end, how the jobs stand.
        out: where it is shown: live on a terminal, else a line for each change.
        sleep: how to wait for the next look.
    """
    shown: AbstractContextManager[Screen] = LiveScreen(out) if out.isatty() else LineScreen(out)
    try:
        with shown as screen:
            follow(config, answer, screen, sleep)
    except BrokenPipeError:
        answer.stopped = True  # whoever read it has seen enough


def follow(config: Config, answer: Status, screen: Screen, sleep: Callable[[float], None]) -> None:
    """Look again and again until nobody is at work and nothing changes."""
    look(config, answer)
    quiet = 0
    while True:
        screen.show(answer)
        at_work, before = any(job.at_work for job in answer.jobs), answer.jobs
        sleep(EVERY_S)
        # Where nobody is at work, somebody may be about to take the lock, and is not to find it taken.
        look(config, answer, locks=at_work)
        quiet = 0 if at_work or not answer.jobs or answer.jobs != before else quiet + 1
        if quiet == _SETTLED:
            return
