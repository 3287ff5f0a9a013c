"""Drawing beside the upload: a process of its own that can cost no more than the plots."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from agent.card.easel import Easel
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from agent.card.figure import Figure

PATIENCE_S = 60.0
_LONGEST_REASON = 300


def available() -> bool:
    """Whether there is something to draw with."""
    return importlib.util.find_spec("matplotlib") is not None


class Drawing:
    """Figures that are being drawn from now on; whatever fails is one warning in the log.

    `finish` returns them. `stop`, or the end of `with`, ends the process and removes what it left.

    Args:
        figures: what to draw.
        easel: a process that waits for it; one is started if there is none, or if it has drawn before.
    """

    def __init__(self, figures: Sequence[Figure], easel: Easel | None = None) -> None:
        self._figures = list(figures)
        self._drawn: dict[str, bytes] | None = None
        self._easel: Easel | None = None
        try:
            if self._figures and easel and easel.is_free:
                self._easel = easel
                easel.ask(self._figures)
            elif self._figures:
                self._easel = Easel(self._figures)
        except OSError as error:
            self.stop()
            _warn(error.strerror or str(error))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def finish(self, patience_s: float = PATIENCE_S) -> dict[str, bytes]:
        """Return each PNG that could be drawn by its path in the repo, after `patience_s` at most."""
        if self._drawn is None:
            try:
                self._drawn = self._collect(patience_s)
            finally:
                self.stop()
        return dict(self._drawn)

    def stop(self) -> None:
        """End the process and remove its folder; what was drawn stays known."""
        if self._drawn is None:
            self._drawn = {}
        if self._easel is not None:
            self._easel.stop()
            self._easel = None

    def _collect(self, patience_s: float) -> dict[str, bytes]:
        if self._easel is None:
            return {}
        process, folder, reason = self._easel.process, self._easel.folder, None
        try:
            if process.wait(patience_s):
                reason = _last_words(folder / "stderr") or f"the process ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"not ready after {patience_s:g} s"
        drawn = {}
        for figure in self._figures:
            try:
                drawn[figure.path] = (folder / PurePosixPath(figure.path).name).read_bytes()
            except OSError as error:
                reason = reason or f"{figure.path}: {error.strerror}"
        if reason:
            _warn(reason)
        return drawn


def _warn(reason: str) -> None:
    get_logger().warning("the plots could not be drawn", because=reason)


def _last_words(file: Path) -> str:
    """The last line of what the process said, where an exception has its message."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _LONGEST_REASON))
            lines = stream.read(_LONGEST_REASON).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
