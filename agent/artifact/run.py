"""What the logs of a run tell beyond its end: for a person who reads the card, never for a decision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.artifact.files import read_json
from agent.artifact.states import checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agent.artifact.states import State

_RESULTS = ("all_results.json", "train_results.json", "eval_results.json")
_LARGEST_RESULTS_BYTES = 1_000_000


@dataclass(frozen=True)
class Run:
    """The course of a training; None where nothing tells it.

    `history` is trainer_state's log as it is, NaN and foreign values included; `checkpoints` and `best_step`
    are optimizer steps; `runtime_s` is what the trainer measured.
    """

    history: tuple[dict[str, Any], ...] = ()
    epochs: float | None = None
    runtime_s: float | None = None
    tokens: float | None = None
    checkpoints: tuple[int, ...] = ()
    best_step: int | None = None


def read_run(state: State | None, history: Sequence[dict[str, Any]], folders: Iterable[Path]) -> Run:
    """Put together what state, log and the *_results.json beside them say.

    Args:
        state: the state that speaks for what is published.
        history: its log.
        folders: where records and checkpoints may lie, the published folder first.
    """
    folders = list(folders)
    document = state.document if state else {}
    results = _results(folders)

    def last(*names: str) -> float | None:
        told = (_positive(entry.get(name)) for entry in (*reversed(history), results) for name in names)
        return next((value for value in told if value is not None), None)

    return Run(
        history=tuple(history),
        epochs=_positive(document.get("epoch")) or last("epoch"),
        runtime_s=last("train_runtime"),
        tokens=last("num_tokens") or _positive(document.get("num_input_tokens_seen")),
        checkpoints=tuple(sorted(step for step, _ in checkpoints(folders[-1]))),
        best_step=best if isinstance(best := document.get("best_global_step"), int) and best > 0 else None,
    )


def _results(folders: Iterable[Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in (folder / name for folder in folders for name in _RESULTS):
        try:
            document = read_json(path, _LARGEST_RESULTS_BYTES)
        except (OSError, ValueError):
            continue
        found = (document if isinstance(document, dict) else {}) | found
    return found


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 < value <= 2**53 and math.isfinite(value) else None
