"""Which folder is worth being sent ahead: the one that would be published if nothing more were saved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from agent.artifact import names, states
from agent.artifact.merged import NAME as MERGED

if TYPE_CHECKING:
    from pathlib import Path

    from agent.artifact.states import State
    from agent.config import Config


class Candidate(NamedTuple):
    """A folder; `is_checkpoint` says that it is one of the training's, and not the output folder."""

    folder: Path
    is_checkpoint: bool


def candidate(config: Config, begun_ns: int) -> Candidate | None:
    """What this training has saved, newest first: the model itself, else a checkpoint that may become it.

    A checkpoint that its trainer is going to replace is none: at the next one all its weights are others,
    and what nobody publishes would only fill the storage.

    Args:
        config: what was asked for.
        begun_ns: when the training began; what is older is not its result.
    """
    output = config.output_dir
    if config.checkpoint == "last" and any(_has_weights(one, begun_ns) for one in (output / MERGED, output)):
        return Candidate(output, is_checkpoint=False)
    folders = {folder.name: folder for _, folder in states.checkpoints(output)}
    for folder in folders.values():
        state = states.read_state(folder / states.NAME, states.NAME, in_root=True)
        if state is None or state.mtime_ns < begun_ns:
            continue  # not complete, or of another training
        best = folders.get(state.best_checkpoint or "")
        if config.checkpoint == "best":
            wanted = best if best != folder or not _is_to_be_replaced(state) else None
        elif config.publish_on_failure == "checkpoint" or not _is_to_be_replaced(state):
            wanted = folder
        else:
            wanted = best if best != folder else None  # it was compared once, and is still the best
        return Candidate(wanted, is_checkpoint=True) if wanted else None
    return None


def _has_weights(folder: Path, begun_ns: int) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(names.is_weights(one.name) and one.stat().st_mtime_ns >= begun_ns for one in entries)
    except OSError:
        return False


def _is_to_be_replaced(state: State) -> bool:
    """Whether the trainer said that it goes on, and saves again on the way."""
    interval = state.document.get("save_steps")
    if not isinstance(interval, int) or isinstance(interval, bool) or interval <= 0:
        return False
    return bool(state.steps and state.max_steps and state.steps + interval <= state.max_steps)
