"""What a training tells of itself, read from the folder that its callback writes to.

The folder belongs to a process that nobody here trusts: what is damaged, half-written, too large or no
file at all counts as not said, and numbers are cut to what the columns of the job row hold.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from agent.parse import parse_json

# As agent/callback.py has them, which runs where nothing of this package is.
PROGRESS, CHECKPOINTS = "progress.json", "checkpoints.jsonl"

LARGEST_BYTES = 64 * 1024
_MOST_BEFORE_THE_END = 99.0
_LARGEST_INT = 2**31 - 1


@dataclass(frozen=True)
class Progress:
    """How far a training is by its own account, in the columns of the job row; None is not known.

    `ended` says that the last step is done. The model may be saved after that.
    """

    progress: float | None
    current_step: int
    current_epoch: float | None
    total_steps: int | None
    total_epochs: int | None
    loss: float | None
    eval_loss: float | None
    learning_rate: float | None
    grad_norm: float | None
    samples_per_second: float | None
    gpu_memory_allocated_gb: float | None
    gpu_memory_reserved_gb: float | None
    elapsed_seconds: int | None
    remaining_seconds: int | None
    ended: bool

    def as_columns(self) -> dict[str, int | float]:
        """What is known, by the names of the row's columns; whole numbers fit an int4, all are finite."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "ended"}
        return {name: value for name, value in columns.items() if value is not None}


class Reports:
    """The folder that `run` names to its child."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Progress | None:
        """The newest progress; None if there is none that can be read."""
        content = _content(self._folder / PROGRESS)
        if content is None or len(content) > LARGEST_BYTES:
            return None
        try:
            document = parse_json(content)
        except ValueError:
            return None
        return _progress(document) if isinstance(document, dict) else None

    def checkpoints(self) -> list[Path]:
        """The checkpoints that were told to be complete, the newest last; of very many the newest ones.

        Hints: a folder named here may be gone, and may be any.
        """
        lines = (_content(self._folder / CHECKPOINTS, newest=True) or b"").split(b"\n")
        # The last line is torn, or empty; the first one may have been cut by the limit, and is then no JSON.
        return [path for line in lines[:-1] if (path := _checkpoint(line))]


def _content(path: Path, *, newest: bool = False) -> bytes | None:
    """Up to a byte more than the limit, of the end with `newest`; None for what is no plain file."""
    try:
        # Without following a link, and without waiting for somebody to write into a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return None
        if newest:
            os.lseek(handle, max(0, status.st_size - LARGEST_BYTES), os.SEEK_SET)
        return os.read(handle, LARGEST_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(handle)


def _progress(said: dict[str, Any]) -> Progress | None:
    step, steps = _whole(said.get("step")), _whole(said.get("max_steps"))
    if step is None:
        return None
    metrics = said.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    return Progress(
        progress=round(min(100.0 * step / steps, _MOST_BEFORE_THE_END), 2) if steps else None,
        current_step=step,
        current_epoch=_finite(said.get("epoch")),
        total_steps=steps or None,
        total_epochs=_whole(said.get("num_epochs")),
        loss=_finite(metrics.get("loss")),
        eval_loss=_finite(metrics.get("eval_loss")),
        learning_rate=_finite(metrics.get("learning_rate")),
        grad_norm=_finite(metrics.get("grad_norm")),
        samples_per_second=_finite(said.get("samples_per_second")),
        gpu_memory_allocated_gb=_finite(said.get("gpu_memory_allocated_gb")),
        gpu_memory_reserved_gb=_finite(said.get("gpu_memory_reserved_gb")),
        elapsed_seconds=_whole(said.get("elapsed_s")),
        remaining_seconds=_whole(said.get("remaining_s")),
        ended=said.get("ended") is True,
    )


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: object) -> int | None:
    """The number without its fraction, from 0 to what an int4 holds."""
    number = _finite(value)
    return None if number is None else int(min(max(number, 0.0), _LARGEST_INT))


def _checkpoint(line: bytes) -> Path | None:
    try:
        said = parse_json(line)
        path = said["path"] if isinstance(said, dict) else None
        if not isinstance(path, str) or b"\0" in os.fsencode(path):
            return None
    except (ValueError, KeyError):
        return None
    return Path(path) if Path(path).is_absolute() else None
