"""Metrics of a training as a person compares them: how they began, how they ended, how good they got."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.card.markdown import code, number, table
from agent.metric_names import lower_is_better

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.card.facts import Training

_MOST = 32
# Of the others nobody can say: logits and rewards only mean something beside each other.
_HIGHER_IS_BETTER = re.compile(r"accurac|margins|f1|bleu|rouge|exact_match|log_odds_ratio$", re.IGNORECASE)
# Of the whole training, not of its end; and what is told elsewhere on the card.
_ELSEWHERE = {
    "step", "epoch", "total_flos", "learning_rate", "num_tokens", "eval_num_tokens", "num_input_tokens_seen",
}  # fmt: skip
_LARGEST_EXACT = 2**53


class _Course(NamedTuple):
    first: float
    last: float
    best: float | None
    best_step: float | None


def metrics_table(training: Training) -> str:
    """A table of the metrics that were logged, evaluation first; empty without any."""
    rows = []
    names = (set(training.metrics) | set(training.diverged)) - _ELSEWHERE
    for name in sorted(names, key=_order)[:_MOST]:
        course = _course(training.history, name, training.metrics.get(name, math.nan))
        best = "" if course.best is None else number(course.best)
        at = "" if course.best is None or course.best_step is None else number(course.best_step)
        rows.append((code(name), number(course.first), number(course.last), best, at))
    return table(("metric", "first", "last", "best", "at step"), rows)


def not_a_number(training: Training) -> dict[str, int]:
    """How often each metric was logged as NaN or infinite."""
    found: dict[str, int] = {}
    for entry in training.history:
        for name, value in entry.items():
            if isinstance(value, float) and not math.isfinite(value):
                found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _order(name: str) -> tuple[bool, bool, str]:
    return (not name.startswith("eval_"), "loss" not in name, name)


def _course(history: Iterable[Mapping[str, Any]], name: str, last: float) -> _Course:
    logged = [(_figure(entry.get(name)), _figure(entry.get("step"))) for entry in history if name in entry]
    values = [(value, step) for value, step in logged if value is not None]
    if not values:
        return _Course(last, last, None, None)
    best: tuple[float | None, float | None] = (None, None)
    if lower_is_better(name):
        best = min(values, key=lambda one: one[0])
    elif _HIGHER_IS_BETTER.search(name):
        best = max(values, key=lambda one: one[0])
    return _Course(values[0][0], last, *best)


def _figure(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= _LARGEST_EXACT else None  # NaN is not either
