"""The course of a training, from trainer_state's `log_history` to figures; nothing here draws.

Source of the keys: what transformers' Trainer and TRL's SFT, DPO and ORPO trainers log.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from agent.card.figure import Figure, Panel, Series, Style
from agent.card.markdown import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LARGEST_EXACT = 2**53  # beyond it an integer is no metric and no step
_LARGEST = 3.4e38  # where float32 ends, which metrics are computed in; what is beyond counts as infinite
_MOST_KEPT, _MOST_DRAWN, _KEPT_OF_A_STRETCH = 50_000, 2000, 5
_MANY = 20  # points: an average says something, and a mark on each would not
_SHORTEST_SPAN, _SPANS_IN_A_RUN = 5, 50
_MOST_CHECKPOINTS = 200  # more could not be told apart
_SPIKE = 50  # times the median: on a linear axis it would hide everything else


@dataclass(frozen=True)
class _Metric:
    """A key of the training's log; with `eval_` before it, of an evaluation's."""

    key: str
    label: str
    best: Literal["lowest", "highest"] | None = None
    share: bool = False
    noisy: bool = True


_Entries = list[tuple[int, dict[str, Any]]]
_Points = list[tuple[int, float | None]]

# The loss is without a unit: label smoothing, DFT or a router's part make it other than nats per token,
# and no log tells. TRL's log_odds_chosen is the log of the odds ratio, its log_odds_ratio the logsigmoid
# of that.
_TOPICS = {
    "loss": ("Loss", (_Metric("loss", "loss", "lowest"),)),
    "optimizer": (
        "Learning rate and gradient norm",
        (
            _Metric("learning_rate", "learning rate", noisy=False),
            _Metric("grad_norm", "gradient L2 norm"),
        ),
    ),
    "rewards": (
        "Rewards",
        (
            _Metric("rewards/margins", "reward margin of the chosen answer", "highest"),
            _Metric(
                "rewards/accuracies", "share of pairs with the chosen answer ahead", "highest", share=True
            ),
        ),
    ),
    "odds": (
        "Odds of chosen against rejected",
        (
            _Metric("log_odds_chosen", "log odds ratio of chosen to rejected", "highest"),
            _Metric("log_odds_ratio", "log-sigmoid of the log odds ratio", "highest"),
        ),
    ),
    "tokens": (
        "Token accuracy and entropy",
        (
            _Metric("mean_token_accuracy", "share of tokens predicted right", "highest"),
            _Metric("entropy", "entropy (nats per token)"),
        ),
    ),
}


def figures(
    history: Iterable[Any], *, checkpoints: Iterable[int] = (), best: int | None = None
) -> list[Figure]:
    """Make a figure of every topic that was logged at two steps at least; nothing in `history` raises.

    Args:
        history: `log_history`, as somebody's trainer left it.
        checkpoints: the optimizer steps at which checkpoints were saved.
        best: the step of the best one.
    """
    logged = ((_step(entry.get("step")), entry) for entry in history if isinstance(entry, dict))
    entries = sorted(((step, entry) for step, entry in logged if step is not None), key=itemgetter(0))
    saved = sorted({step for step in map(_step, checkpoints) if step is not None})
    found = {}
    for topic, (title, metrics) in _TOPICS.items():
        courses = [_Course(metric, entries) for metric in metrics]
        if drawn := [course for course in courses if course.is_one]:
            found[topic] = _figure(topic, title, drawn, saved, _step(best))
    if "rewards" in found:
        found.pop("tokens", None)  # what is learned from pairs is not judged by single tokens
    return list(found.values())


class _Course:
    """What became of one metric, in training and in evaluation."""

    def __init__(self, metric: _Metric, entries: _Entries) -> None:
        self.metric = metric
        trained, evaluated = (_points(entries, key) for key in (metric.key, f"eval_{metric.key}"))
        self.lost = [step for step, value in [*trained, *evaluated] if value is None]
        self.trained, self.evaluated = (_thinned(points, _MOST_KEPT) for points in (trained, evaluated))
        self.many = len(_finite(self.trained)) >= _MANY
        shown = [value for _, value in _finite([*self.trained, *self.evaluated])] or [0.0]
        self.log_scale = min(shown) > 0 and max(shown) > _SPIKE * statistics.median(shown)
        smooth = metric.noisy and self.many
        self.averaged = _averaged(self.trained, of_logs=self.log_scale) if smooth else []
        self.share = metric.share and min(shown) >= 0 and max(shown) <= 1

    @property
    def is_one(self) -> bool:
        return any(len(_finite(points)) > 1 for points in (self.trained, self.evaluated))

    @property
    def end(self) -> int:
        return max(points[-1][0] for points in (self.trained, self.evaluated) if points)

    @property
    def panel(self) -> Panel:
        series = []
        if self.averaged:
            series.append(_series("training", "training", "faint", self.trained))
            series.append(_series("training", "smoothed", "line", self.averaged))
        elif self.trained:
            series.append(_series("training", "training", "line" if self.many else "points", self.trained))
        if self.evaluated:
            series.append(_series("evaluation", "evaluation", "points", self.evaluated))
        return Panel(self.metric.label, tuple(series), log_scale=self.log_scale, share=self.share)

    @property
    def story(self) -> str:
        """From where to where it went, and where it was best."""
        told = []
        trained, evaluated, best = _finite(self.trained), _finite(self.evaluated), self.metric.best
        if trained:
            last, how = (_finite(self.averaged)[-1], " (smoothed)") if self.averaged else (trained[-1], "")
            where = "in training " if evaluated else ""
            told.append(f"{where}from {number(trained[0][1])} to {number(last[1])}{how}")
            if best is None:
                step, value = max(trained, key=itemgetter(1))
                told[-1] += f", highest {number(value)} at step {number(step)}"
        if evaluated:
            told.append(f"in evaluation {number(evaluated[-1][1])} at the end")
            if best:
                step, value = (min if best == "lowest" else max)(evaluated, key=itemgetter(1))
                told[-1] += f", best {number(value)} at step {number(step)}"
        if self.lost:
            several = f"{number(len(self.lost))} times, first " if len(self.lost) > 1 else ""
            told.append(f"NaN or infinite {several}at step {number(min(self.lost))}")
        return "; ".join(told)


def _figure(
    topic: str, title: str, courses: Sequence[_Course], checkpoints: Sequence[int], best: int | None
) -> Figure:
    end = max(course.end for course in courses)
    over = f" over {number(end)} optimizer steps"
    told = [
        f"{course.metric.label}{'' if at else over}: {course.story}." for at, course in enumerate(courses)
    ]
    # The last ones lie beyond what was logged last; those that lie far beyond are of another run.
    shown = tuple(step for step in checkpoints if step <= 2 * end)
    return Figure(
        path=f"assets/training-{topic}.png",
        title=title,
        caption=" ".join(one[0].upper() + one[1:] for one in told),
        panels=tuple(course.panel for course in courses),
        checkpoints=shown if len(shown) <= _MOST_CHECKPOINTS else (),
        best=best if best is not None and best <= 2 * end else None,
    )


def _points(entries: _Entries, key: str) -> _Points:
    """What was logged under a key, by step; of a step that was logged twice, what came last."""
    points: _Points = []
    for step, entry in entries:
        if key in entry and (value := _number(entry[key])) is not None:
            if points and points[-1][0] == step:
                points.pop()
            points.append((step, value if abs(value) <= _LARGEST else None))
    return points


def _step(value: object) -> int | None:
    step = _number(value)
    return int(step) if step is not None and 0 <= step <= _LARGEST_EXACT and step.is_integer() else None


def _number(value: object) -> float | None:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_EXACT:
        return float(value)
    return None


def _finite(points: _Points) -> list[tuple[int, float]]:
    return [(step, value) for step, value in points if value is not None]


def _averaged(points: _Points, *, of_logs: bool) -> _Points:
    """The exponential moving average from both sides, corrected for its starts as Adam's moments are.

    From one side it would lag behind, most where a loss falls fastest. Of logarithms, for a logarithmic
    axis, one spike does not lift all that is around it.
    """
    finite = _finite(points)
    values = [math.log(value) if of_logs else value for _, value in finite]
    both = zip(_sums(values), reversed(_sums(values[::-1])), strict=True)
    means = [(before + after) / (weight + weight_after) for (before, weight), (after, weight_after) in both]
    smooth = {
        step: math.exp(mean) if of_logs else mean for (step, _), mean in zip(finite, means, strict=True)
    }
    return [(step, smooth.get(step)) for step, _ in points]


def _sums(values: Sequence[float]) -> list[tuple[float, float]]:
    """Sums of what came so far, the latest weighing most, each with its weights' sum."""
    share = 2 / (max(_SHORTEST_SPAN, len(values) / _SPANS_IN_A_RUN) + 1)
    total = weight = 0.0
    sums = []
    for value in values:
        total += share * (value - total)
        weight += share * (1 - weight)
        sums.append((total, weight))
    return sums


def _series(split: Literal["training", "evaluation"], label: str, style: Style, points: _Points) -> Series:
    thin = _thinned(points, _MOST_DRAWN)
    return Series(split, label, style, tuple(step for step, _ in thin), tuple(value for _, value in thin))


def _thinned(points: _Points, most: int) -> _Points:
    """At most so many: of each stretch its ends, its extremes and one gap."""
    if len(points) <= most:
        return points
    length = math.ceil(len(points) * _KEPT_OF_A_STRETCH / most)
    kept: _Points = []
    for start in range(0, len(points), length):
        stretch = points[start : start + length]
        chosen = {stretch[0], stretch[-1], *[point for point in stretch if point[1] is None][:1]}
        if finite := _finite(stretch):
            chosen |= {min(finite, key=itemgetter(1)), max(finite, key=itemgetter(1))}
        kept += sorted(chosen, key=itemgetter(0))
    return kept
