"""A process that draws, and may be there before anybody knows what: matplotlib loads longer than it draws."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.card.figure import Figure

ASKED = "figures.json"
# What Python and its libraries need to start. Everything else may be a secret, and draws nothing.
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONHOME",
    "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX",
)  # fmt: skip


class Easel:
    """One process and its folder; it draws once.

    Args:
        figures: what to draw, if that is known already.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, figures: Sequence[Figure] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="training-agent-plots-"))
        self.is_free = figures is None
        try:
            if figures is not None:
                self._write(figures)
            self.process = self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        if figures is not None:
            self._begin()

    def ask(self, figures: Sequence[Figure]) -> None:
        """Let it draw these.

        Raises:
            OSError: they cannot be told to it.
        """
        self.is_free = False
        self._write(figures)
        self._begin()

    def stop(self) -> None:
        """End the process and remove its folder."""
        self.is_free = False
        self._begin()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, figures: Sequence[Figure]) -> None:
        # A file, because nobody reads or writes a pipe while the model travels.
        documents = [dataclasses.asdict(figure) for figure in figures]
        (self.folder / ASKED).write_text(json.dumps(documents))

    def _start(self) -> subprocess.Popen[bytes]:
        isolated = ["-I"] if sys.flags.isolated else []  # as we are, from what the environment says to Python
        with (self.folder / "stderr").open("wb") as stderr:
            return subprocess.Popen(  # noqa: S603 - a module of ours
                [sys.executable, *isolated, "-m", "agent.card.plots", str(self.folder)],
                stdin=subprocess.PIPE,  # its end says that the file is there, or that we are gone
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.folder,  # Python and matplotlib both look around where they are started
                env=_environment(),
            )

    def _begin(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()


def _environment() -> dict[str, str]:
    environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    home = Path(__file__).resolve().parents[2]
    paths = [str(Path(path).absolute()) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if home.name not in {"site-packages", "dist-packages"}:  # found there anyway, but behind Python's own
        paths.append(str(home))
    one_core = {"OMP_NUM_THREADS": "1"}  # the upload hashes and compresses on the others
    return environ | one_core | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
