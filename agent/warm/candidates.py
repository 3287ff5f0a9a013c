"""Which folders are worth being sent ahead: those that would be published if nothing more were saved."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from agent.artifact import names, states
from agent.artifact.merged import NAME as MERGED
from agent.hashes import Stamp

if TYPE_CHECKING:
    from pathlib import Path

    from agent.artifact.states import State
    from agent.config import Config


class Candidate(NamedTuple):
    """A folder; `is_checkpoint` says that it is one of the training's, and not the output folder."""

    folder: Path
    is_checkpoint: bool


def candidates(config: Config, begun_ns: int) -> list[Candidate]:
    """What this training has saved and may publish, newest first: the model, its last checkpoint, its best.

    A checkpoint that its trainer is going to replace is none: at the next one all its weights are others,
    and what nobody publishes would only fill the storage.

    Args:
        config: what was asked for.
        begun_ns: when the training began; what is older is not its result.
    """
    output = config.output_dir
    found = [Candidate(folder, is_checkpoint=True) for folder in _checkpoints(config, begun_ns)]
    if config.checkpoint == "last" and any(_has_weights(one, begun_ns) for one in (output / MERGED, output)):
        found.insert(0, Candidate(output, is_checkpoint=False))
    return found


def _checkpoints(config: Config, begun_ns: int) -> list[Path]:
    folders = {folder.name: folder for _, folder in states.checkpoints(config.output_dir)}
    for folder in folders.values():
        state = _state_of(folder)
        if state is None or state.mtime_ns < begun_ns:
            continue  # not complete, or of another training
        best = folders.get(state.best_checkpoint or "")
        goes_on = _is_to_be_replaced(state) and config.publish_on_failure != "checkpoint"
        wanted = [] if goes_on or (config.checkpoint == "best" and folder != best) else [folder]
        # An earlier one that is still the best was compared once: it may be what is loaded in the end.
        return wanted + ([best] if best and best != folder else [])
    return []


def _has_weights(folder: Path, begun_ns: int) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(names.is_weights(one.name) and one.stat().st_mtime_ns >= begun_ns for one in entries)
    except OSError:
        return False


def _state_of(folder: Path) -> State | None:
    path = folder / states.NAME
    try:
        return _read(path, Stamp.of(path))
    except OSError:
        return None


@lru_cache(maxsize=2)  # after a long training it has many megabytes, and it is asked for every second
def _read(path: Path, _as_it_is: Stamp) -> State | None:
    return states.read_state(path, states.NAME, in_root=True)


def _is_to_be_replaced(state: State) -> bool:
    """Whether the trainer said that it goes on, and saves again on the way."""
    interval = state.document.get("save_steps")
    if not isinstance(interval, int) or isinstance(interval, bool) or interval <= 0:
        return False
    return bool(state.steps and state.max_steps and state.steps + interval <= state.max_steps)
