"""What the folder tells about the training: method, base, metrics. Nothing here is ever guessed twice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.parse import parse_json

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_EXACT = 2**53  # beyond it an integer is no metric, and may not even be a float
_METHODS = ("sft", "dpo", "orpo")
_NOT_METRICS = {"step", "epoch", "total_flos"}


@dataclass(frozen=True)
class Training:
    """What is known of a training run; `method` is None when nothing tells it."""

    method: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int | None = None


def read_training(root: Path, configured_method: str | None, *, beside: Path | None = None) -> Training:
    """Tell the method and the last metrics from the configuration, the logs, then the card.

    Args:
        root: the folder that is published.
        configured_method: TRAINING_METHOD or the training config's word; it wins.
        beside: where logs and card lie if not in `root`: a merged model's do not.
    """
    folders = [root, beside] if beside else [root]
    state = next((state for state in map(_state, folders) if state), {})
    logged = state.get("log_history")
    history = [entry for entry in (logged if isinstance(logged, list) else ()) if isinstance(entry, dict)]
    steps = state.get("global_step")
    from_card = next((method for method in map(_method_from_card, folders) if method), None)
    return Training(
        method=(configured_method or "").lower() or _method_from_logs(history) or from_card,
        metrics=_last_metrics(history),
        steps=steps if isinstance(steps, int) and not isinstance(steps, bool) else None,
    )


def _state(root: Path) -> dict[str, Any]:
    """trainer_state.json of the root, or of the newest checkpoint that has one (it is written last)."""
    checkpoints = []
    for path in root.glob("checkpoint-*/trainer_state.json"):
        number = re.fullmatch(r"checkpoint-(\d+)", path.parent.name)
        if number:
            checkpoints.append((int(number[1]), path))
    newest_first = [path for _, path in sorted(checkpoints, reverse=True)]
    for path in [root / "trainer_state.json", *newest_first]:
        try:
            state = parse_json(path.read_bytes()) if path.is_file() else None
        except (OSError, ValueError):
            continue
        if isinstance(state, dict):
            return state
    return {}


def _method_from_logs(history: list[dict[str, Any]]) -> str | None:
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


def _last_metrics(history: list[dict[str, Any]]) -> dict[str, float]:
    """The last finite value of every metric; bare NaN and Infinity do occur in these files."""
    metrics = {}
    for entry in history:
        for key, value in entry.items():
            if key in _NOT_METRICS or key.endswith(("_runtime", "_per_second")):
                continue
            if isinstance(value, float) and math.isfinite(value):
                metrics[key] = value
            elif isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_EXACT:
                metrics[key] = float(value)
    return dict(sorted(metrics.items()))
