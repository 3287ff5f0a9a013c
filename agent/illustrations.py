"""The plots of one publication: drawn once, by a process of their own, while the model travels."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from agent import card
from agent.card.drawing import PATIENCE_S, Drawing, available
from agent.hub.files import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.artifact import Training
    from agent.card.easel import Easel
    from agent.card.figure import Figure

_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


class Illustrations:
    """Plots that a training's log is enough for; none where matplotlib is missing.

    Args:
        training: whose log is drawn.
        taken: paths that files of the user's have in the repo.
        left_s: how long may be waited for them.
        easel: a process that waits for something to draw, if there is one.
    """

    def __init__(
        self,
        training: Training,
        taken: Collection[str],
        left_s: Callable[[], float] = lambda: PATIENCE_S,
        easel: Easel | None = None,
    ) -> None:
        self._run, self._taken, self._left_s, self._easel = training.run, taken, left_s, easel
        self._drawing: Drawing | None = None

    @cached_property
    def _figures(self) -> list[Figure]:
        if not available():
            return []
        run = self._run
        figures = card.figures(run.history, checkpoints=run.checkpoints, best=run.best_step)
        return [figure for figure in figures if figure.path not in self._taken]

    @property
    def beginnings(self) -> Mapping[str, bytes]:
        """How the files will begin, by path."""
        return {figure.path: _PNG_HEAD for figure in self._figures}

    def begin(self) -> None:
        """Start drawing, unless that was done before."""
        if self._figures and self._drawing is None:
            self._drawing = Drawing(self._figures, self._easel)

    def pieces(self) -> list[Piece]:
        """The plots that could be drawn, waited for."""
        return [Piece.made(path, content) for path, content in self._drawn().items()]

    def pictures(self) -> tuple[card.Picture, ...]:
        """The same, as the card shows them."""
        drawn = self._drawn()
        return tuple(
            card.Picture(figure.path, figure.title, figure.caption)
            for figure in self._figures
            if figure.path in drawn
        )

    def xet_hashes(self) -> Mapping[str, str]:
        """The content hash of each, as xet storage must show it."""
        from agent.hub.xet import hash_bytes

        return {piece.path: hash_bytes(piece.read()) for piece in self.pieces()}

    def _drawn(self) -> dict[str, bytes]:
        if self._drawing is None:
            return {}
        return self._drawing.finish(max(0.0, min(PATIENCE_S, self._left_s())))

    def stop(self) -> None:
        """End the process and remove what it left; what was drawn stays known."""
        if self._drawing:
            self._drawing.stop()
