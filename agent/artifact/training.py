"""What the folder tells about the training: method, metrics, how it ended. Nothing is guessed twice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agent.artifact.run import Run, read_run
from agent.artifact.states import State, first_state, newest_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Ended = Literal["finished", "early-stopping", "cut-short", "unknown"]

_LARGEST_EXACT = 2**53  # beyond it an integer is no metric, and may not even be a float
_METHODS = ("sft", "dpo", "orpo")
_NOT_METRICS = {"step", "epoch", "total_flos"}


@dataclass(frozen=True)
class Training:
    """What is known of a training run; `method` is None when nothing tells it.

    `ended` is `finished`, `early-stopping`, `cut-short` or `unknown`; `because` says what tells so.
    `diverged` names what was logged last as NaN or infinite; `metrics` is without it.
    """

    method: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    max_steps: int | None = None
    ended: Ended = "unknown"
    because: str = "there is no trainer_state.json"
    best_metric: float | None = None
    diverged: tuple[str, ...] = ()
    run: Run = field(default_factory=Run)

    @property
    def last_values(self) -> dict[str, float]:
        """What a condition is compared with: nothing holds of a metric that is no number any more."""
        return self.metrics | dict.fromkeys(self.diverged, math.nan)


def read_training(
    root: Path,
    configured_method: str | None,
    *,
    beside: Path | None = None,
    weights_ns: int = 0,
    whole_run: bool = False,
) -> Training:
    """Tell method, last metrics and end from the configuration, the logs, then the card.

    Args:
        root: the folder that is published.
        configured_method: TRAINING_METHOD or the training config's word; it wins.
        beside: where logs and card lie if not in `root`: a merged model's do not.
        weights_ns: mtime of the newest weights; a checkpoint's state that is older does not tell their end.
        whole_run: `root` is a checkpoint chosen from a run: how the run ended is told by its newest state.
    """
    folders = [root, beside] if beside and beside != root else [root]
    state = first_state(folders)
    last = newest_state(folders[-1]) if whole_run else state
    document = state.document if state else {}
    logged = document.get("log_history")
    history = [entry for entry in (logged if isinstance(logged, list) else ()) if isinstance(entry, dict)]
    from_card = next((method for method in map(_method_from_card, folders) if method), None)
    values = _last_values(history)
    ended, because = _end(last, weights_ns) if last else ("unknown", Training.because)
    return Training(
        method=(configured_method or "").lower() or _method_from_logs(history) or from_card,
        metrics={name: value for name, value in values.items() if math.isfinite(value)},
        steps=state.steps if state else None,
        max_steps=state.max_steps if state else None,
        ended=ended,
        because=because,
        best_metric=_number(document.get("best_metric")),
        diverged=tuple(name for name, value in values.items() if not math.isfinite(value)),
        run=read_run(state, history, folders),
    )


def _end(state: State, weights_ns: int) -> tuple[Ended, str]:
    if not state.in_root and state.mtime_ns < weights_ns:
        return "unknown", f"{state.name} is older than the weights"
    if state.steps is None or not state.max_steps or state.max_steps < 0:
        return "unknown", f"{state.name} does not say how many steps were planned"
    told = f"{state.name} says step {state.steps} of {state.max_steps}"
    if state.steps >= state.max_steps:
        return "finished", told
    return ("early-stopping" if state.stopped_itself else "cut-short"), told


def _method_from_logs(history: Sequence[dict[str, Any]]) -> str | None:
    keys = {key for entry in history for key in entry}
    if not keys & {"loss", "train_loss"}:
        return None
    if "log_odds_ratio" in keys:
        return "orpo"
    return "dpo" if any(key.startswith("rewards/") for key in keys) else "sft"


def _method_from_card(root: Path) -> str | None:
    readme = root / "README.md"
    try:
        text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    except OSError:
        return None
    head = text.split("\n---", 1)[0]
    tags = set(re.findall(r"^- +(\w+)\s*$", head, re.MULTILINE))
    return next((method for method in _METHODS if method in tags), None) if "trl" in tags else None


def _last_values(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The last value of every metric; bare NaN and Infinity do occur in these files."""
    values = {}
    for entry in history:
        for key, value in entry.items():
            if key in _NOT_METRICS or key.endswith(("_runtime", "_per_second")):
                continue
            number = value if isinstance(value, float) else _number(value)
            if number is not None:
                values[key] = number
    return dict(sorted(values.items()))


def _number(value: object) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_EXACT:
        return float(value)
    return None
