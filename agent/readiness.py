"""What a publication will need at once, made ready beside what comes before it."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.beside import Beside
from agent.card.drawing import available
from agent.card.easel import Easel
from agent.log import get_logger

if TYPE_CHECKING:
    from agent.config import Config

_CLIENTS = ("agent.hub.content", "agent.hub.commit", "agent.hub.verify", "hf_xet")


class Readiness:
    """Loaded libraries, and a process that waits to draw; without them the end takes a second longer.

    `easel` is None where there is none.
    """

    def __init__(self) -> None:
        self.easel: Easel | None = None

    def prepare(self, config: Config) -> None:
        """Begin with all of it; returns before it is done."""
        if config.token and not config.other_rank:
            Beside(_load)
            self.prepare_to_draw(config)

    def prepare_to_draw(self, config: Config) -> None:
        """Begin with the process that draws; loading takes it longer than drawing."""
        try:
            if config.token and self.easel is None and available():
                self.easel = Easel()
        except OSError as error:
            get_logger().debug("nobody waits to draw", because=str(error))

    def close(self) -> None:
        """End the process, whether it has drawn or not."""
        if self.easel:
            self.easel.stop()
            self.easel = None


def _load() -> None:
    for name in _CLIENTS:
        with suppress(Exception):  # who needs it will say so
            importlib.import_module(name)
