"""trainer_state.json, wherever a trainer left one: in the root or, written last, in each checkpoint."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.artifact.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "trainer_state.json"
_LARGEST_BYTES = 200_000_000
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")


@dataclass(frozen=True)
class State:
    """One trainer_state.json.

    `name` is what a person would call it; `in_root` says that it speaks for the end of the training
    rather than for a moment of it.
    """

    document: dict[str, Any]
    name: str
    in_root: bool
    mtime_ns: int

    @property
    def steps(self) -> int | None:
        """Optimizer steps made, or None."""
        return _whole(self.document.get("global_step"))

    @property
    def max_steps(self) -> int | None:
        """Optimizer steps planned, or None."""
        return _whole(self.document.get("max_steps"))

    @property
    def best_checkpoint(self) -> str | None:
        """Name of the folder of best_model_checkpoint; its path is of the machine it was trained on."""
        best = self.document.get("best_model_checkpoint")
        name = best.rstrip("/").rpartition("/")[2] if isinstance(best, str) else ""
        return name if _CHECKPOINT.fullmatch(name) else None

    @property
    def stopped_itself(self) -> bool:
        """Whether transformers' EarlyStoppingCallback ended the training: its patience is used up."""
        callbacks = self.document.get("stateful_callbacks")
        found = callbacks.get("EarlyStoppingCallback") if isinstance(callbacks, dict) else None
        for one in found if isinstance(found, list) else [found]:
            if not isinstance(one, dict):
                continue
            patience = _whole(_of(one, "args").get("early_stopping_patience"))
            waited = _whole(_of(one, "attributes").get("early_stopping_patience_counter"))
            if patience is None or waited is None or waited >= patience:
                return True
        return False


def first_state(folders: Iterable[Path]) -> State | None:
    """The state that speaks for what is published: of a root, else of the newest checkpoint with one."""
    for folder in folders:
        found = read_state(folder / NAME, NAME, in_root=True) or _newest_checkpoint(folder)
        if found:
            return found
    return None


def newest_state(run: Path) -> State | None:
    """The state of a run's folder that saw most steps; the root's, if it saw as many."""
    found = [read_state(run / NAME, NAME, in_root=True), _newest_checkpoint(run)]
    return max((state for state in found if state), key=lambda state: state.steps or 0, default=None)


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """The checkpoint folders of a run with their steps, the highest first."""
    try:
        with os.scandir(run) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    numbered = [(int(match[1]), run / match[0]) for match in map(_CHECKPOINT.fullmatch, found) if match]
    return sorted(numbered, reverse=True)


def read_state(path: Path, name: str, *, in_root: bool) -> State | None:
    """One state file; None if it is not there or damaged: it is written last, in no atomic way."""
    try:
        mtime_ns = path.stat().st_mtime_ns
        document = read_json(path, _LARGEST_BYTES)
    except (OSError, ValueError):
        return None
    return State(document, name, in_root, mtime_ns) if isinstance(document, dict) else None


def _newest_checkpoint(run: Path) -> State | None:
    states = (
        read_state(folder / NAME, f"{folder.name}/{NAME}", in_root=False) for _, folder in checkpoints(run)
    )
    return next((state for state in states if state), None)


def _of(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
