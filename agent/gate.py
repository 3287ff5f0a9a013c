"""AGENT_PUBLISH_IF: whether a model should be published at all.

    always                                       the default
    eval_loss<=1.2 and rewards/accuracies>0.6    metrics of this training
    improves:eval_loss                           better than the model that is published now
    branch:main and tag:v*                       what GITHUB_REF names

All conditions must hold. Lower is better for metrics named after a loss, an error, a perplexity or a
WER, higher for all others.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.metric_names import lower_is_better

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ALWAYS = "always"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_METRIC = r"[A-Za-z_][\w/@.-]*"
_COMPARISON = re.compile(rf"({_METRIC})\s*(<=|>=|==|!=|<|>)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)")
_IMPROVES = re.compile(rf"improves:({_METRIC})")
_REF = re.compile(r"(branch|tag):(\S+)")
_FOLDERS = {"branch": "refs/heads/", "tag": "refs/tags/"}


class UnknownMetricError(ValueError):
    """A condition names a metric that the training did not log."""


@dataclass(frozen=True)
class Gate:
    """Conditions, in the words they were given."""

    conditions: tuple[str, ...] = ()

    @property
    def compares(self) -> bool:
        """Whether the model that is published now matters."""
        return any(_IMPROVES.fullmatch(condition) for condition in self.conditions)

    def refusal(
        self, metrics: Mapping[str, float], earlier: Mapping[str, object] | None, ref: str | None
    ) -> str | None:
        """Why the model is not to be published; None when it is.

        Args:
            metrics: of this training.
            earlier: of the model that is published now; None when there is none.
            ref: GITHUB_REF.

        Raises:
            UnknownMetricError: naming the known ones.
        """
        reasons = [_refusal(condition, metrics, earlier, ref) for condition in self.conditions]
        return "; ".join(reason for reason in reasons if reason) or None


def parse(text: str) -> Gate:
    """Read the variable strictly.

    Raises:
        ValueError: saying which condition is no condition.
    """
    conditions = tuple(part.strip() for part in re.split(r"\s+and\s+", text.strip()))
    for condition in conditions:
        if condition != ALWAYS and not any(
            form.fullmatch(condition) for form in (_COMPARISON, _IMPROVES, _REF)
        ):
            raise ValueError(
                f"{condition!r} is no condition; use METRIC<=NUMBER, improves:METRIC, branch:NAME or "
                "tag:PATTERN, joined by ' and '"
            )
    return Gate(tuple(condition for condition in conditions if condition != ALWAYS))


def _refusal(
    condition: str, metrics: Mapping[str, float], earlier: Mapping[str, object] | None, ref: str | None
) -> str | None:
    if found := _COMPARISON.fullmatch(condition):
        value = _value(found[1], metrics)
        return None if _COMPARE[found[2]](value, float(found[3])) else f"{condition} does not hold: {value:g}"
    if found := _IMPROVES.fullmatch(condition):
        return _no_better(found[1], _value(found[1], metrics), earlier)
    kind, pattern = condition.split(":", 1)
    name = (ref or "").removeprefix(_FOLDERS[kind])
    if ref and ref.startswith(_FOLDERS[kind]) and fnmatch.fnmatchcase(name, pattern):
        return None
    return f"{condition} does not hold: GITHUB_REF is {ref or 'not set'}"


def _no_better(metric: str, value: float, earlier: Mapping[str, object] | None) -> str | None:
    before = (earlier or {}).get(metric)
    if not isinstance(before, int | float) or not math.isfinite(before):
        return None  # nothing to compare with
    better = value < before if lower_is_better(metric) else value > before
    return None if better else f"{metric} does not improve: {value:g} after {before:g}"


def _value(metric: str, metrics: Mapping[str, float]) -> float:
    if metric not in metrics:
        known = ", ".join(metrics) or "none: the folder holds no trainer_state.json"
        raise UnknownMetricError(f"{metric} was not logged by this training; known are {known}")
    return metrics[metric]
