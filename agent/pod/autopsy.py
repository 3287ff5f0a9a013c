"""Why a training ended as it did, told from its exit code and its last lines."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIGNALLED = 128  # a shell's exit code for a process that a signal ended is this plus the signal
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_LONGEST_MESSAGE = 7500  # characters: the row holds 8000, and where the model is comes on top
_CAUSES = (
    (
        re.compile(r"CUDA out of memory|torch(\.cuda)?\.OutOfMemoryError|CUDA error: out of memory"
                   r"|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory"),
        "the GPU ran out of memory",
        "Use a smaller batch, gradient checkpointing, or a larger GPU.",
    ),
    (
        re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b"),
        "the disk is full",
        "Make room on the volume, or rent a larger one; keep fewer checkpoints (save_total_limit).",
    ),
    (
        re.compile(r"Cannot allocate memory|\bMemoryError\b|DefaultCPUAllocator: can't allocate memory"),
        "the machine ran out of memory",
        "Use fewer data loader workers, or a pod with more memory.",
    ),
)  # fmt: skip
_KILLED = "killed, probably because the machine ran out of memory"
_KILLED_CURE = "Use fewer data loader workers, a smaller batch, or a pod with more memory."


@dataclass(frozen=True)
class Autopsy:
    """What a failed training died of: a phrase for people, and what may be done about it."""

    cause: str
    hint: str


def autopsy(exit_code: int, last_lines: Sequence[str], log: Path) -> Autopsy:
    """Tell what a training died of.

    Args:
        exit_code: as a shell reports it: above 128 it was a signal.
        last_lines: the end of its output.
        log: where more of it is.
    """
    text = "\n".join(last_lines)
    said = next(((cause, hint) for known, cause, hint in _CAUSES if known.search(text)), None)
    if said:
        return Autopsy(*said)
    if exit_code == SIGNALLED + signal.SIGKILL:
        return Autopsy(_KILLED, _KILLED_CURE)
    if exit_code in {NOT_FOUND, NOT_EXECUTABLE}:
        return Autopsy("the command cannot be run", "Check its name, its path and that it may be executed.")
    return Autopsy(ending_of(exit_code), f"The end of {log} says more.")


def ending_of(exit_code: int) -> str:
    """An exit code in words; a signal by its name."""
    if exit_code > SIGNALLED:
        try:
            return f"ended by {signal.Signals(exit_code - SIGNALLED).name}"
        except ValueError:
            pass
    return f"exit code {exit_code}"


def sentence(found: Autopsy, exit_code: int, seconds: float) -> str:
    """What happened to a training, in one sentence."""
    ending = ending_of(exit_code)
    what = found.cause if found.cause == ending else f"{found.cause} ({ending})"
    return f"The training failed after {_duration(seconds)}: {what}."


def message(head: str, last_lines: Sequence[str]) -> str:
    """What the row says of a failed training: the reason first, then as much of its last lines as fits."""
    tail, room = "\n".join(last_lines).rstrip(), _LONGEST_MESSAGE - len(head)
    if len(tail) > room:
        tail = f"…{tail[len(tail) - room :]}"
    return f"{head} Its last lines:\n{tail}\n" if tail else head


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0 or hours > 0)
    return " ".join(parts or [f"{rest} s"])
