"""Drawing beside the upload: a process of its own that can cost no more than the plots."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from agent.card.figure import Figure

PATIENCE_S = 60.0
_LONGEST_REASON = 300
# What Python and its libraries need to start. Everything else may be a secret, and draws nothing.
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONHOME",
    "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX",
)  # fmt: skip


def available() -> bool:
    """Whether there is something to draw with."""
    return importlib.util.find_spec("matplotlib") is not None


class Drawing:
    """Figures that are being drawn from now on; whatever fails is one warning in the log.

    `finish` returns them. `stop`, or the end of `with`, ends the process and removes what it left.
    """

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._figures = list(figures)
        self._drawn: dict[str, bytes] | None = None
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if self._figures:
                self._start()
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
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self) -> None:
        self._folder = folder = Path(tempfile.mkdtemp(prefix="training-agent-plots-"))
        # Files, because nobody reads or writes a pipe while the model travels.
        asked = folder / "figures.json"
        asked.write_text(json.dumps([dataclasses.asdict(figure) for figure in self._figures]))
        isolated = ["-I"] if sys.flags.isolated else []  # as we are, from what the environment says to Python
        with asked.open("rb") as stdin, (folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - a module of ours
                [sys.executable, *isolated, "-m", "agent.card.plots", str(folder)],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=folder,  # Python and matplotlib both look around where they are started
                env=_environment(),
            )

    def _collect(self, patience_s: float) -> dict[str, bytes]:
        process, folder = self._process, self._folder
        if process is None or folder is None:
            return {}
        reason = None
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


def _environment() -> dict[str, str]:
    environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    home = Path(__file__).resolve().parents[2]
    paths = [str(Path(path).absolute()) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if home.name not in {"site-packages", "dist-packages"}:  # found there anyway, but behind Python's own
        paths.append(str(home))
    one_core = {"OMP_NUM_THREADS": "1"}  # the upload hashes and compresses on the others
    return environ | one_core | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
