"""Numbers measured in turns: two sides, their medians, and how far a number can be trusted."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

NOISY_SPREAD = 0.2


@dataclass(frozen=True)
class Series:
    """What one side measured, run by run."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value in the middle."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """(max - min) / median; 0 for a median of 0."""
        return (max(self.values) - min(self.values)) / abs(self.median) if self.median else 0.0

    @property
    def noisy(self) -> bool:
        """Whether the runs differ too much for the median to be quoted alone."""
        return self.spread > NOISY_SPREAD

    def as_json(self) -> dict[str, Any]:
        """Every value, and what was made of them."""
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "noisy": self.noisy,
            "values": list(self.values),
        }


@dataclass(frozen=True)
class Row:
    """One comparison: the same thing measured on two sides, in pairs."""

    group: str
    what: str
    unit: str
    our_name: str
    their_name: str
    ours: Series
    theirs: Series
    target: Target | None = None

    @property
    def ratio(self) -> Series:
        """Ours by theirs, pair by pair."""
        return Series(tuple(a / b if b else float("inf") for a, b in self._pairs()))

    @property
    def difference(self) -> Series:
        """Ours less theirs, pair by pair."""
        return self.beyond(1)

    def beyond(self, times: float) -> Series:
        """What ours has on top of `times` theirs, pair by pair."""
        return Series(tuple(a - times * b for a, b in self._pairs()))

    def _pairs(self) -> Iterable[tuple[float, float]]:
        return zip(self.ours.values, self.theirs.values, strict=True)

    @property
    def noisy(self) -> bool:
        """Whether either side is."""
        return self.ours.noisy or self.theirs.noisy

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        beyond = self.beyond(self.target.times).median if self.target.times is not None else 0.0
        return self.target.met(self.ours.median, beyond)

    def as_json(self) -> dict[str, Any]:
        """The row with every value behind it."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": {"name": self.our_name, **self.ours.as_json()},
            "theirs": {"name": self.their_name, **self.theirs.as_json()},
            "ratio": self.ratio.as_json(),
            "difference": self.difference.as_json(),
            "noisy": self.noisy,
            "target": self.target.as_json(self.unit) if self.target else None,
            "met": self.met,
        }

    @classmethod
    def from_json(cls, group: str, told: Mapping[str, Any]) -> Row:
        """The row that was written; what was made of its values is made again."""
        ours, theirs = (Series(tuple(told[side]["values"])) for side in ("ours", "theirs"))
        names = (told["ours"]["name"], told["theirs"]["name"])
        return cls(group, told["what"], told["unit"], *names, ours, theirs, Target.from_json(told["target"]))


def row(
    group: str,
    what: str,
    unit: str,
    names: tuple[str, str],
    pairs: Iterable[tuple[float, ...]],
    *,
    target: Target | None = None,
) -> Row:
    """Make a row of what was measured: pairs of ours and theirs."""
    ours, theirs = zip(*pairs, strict=True)
    return Row(group, what, unit, *names, Series(ours), Series(theirs), target)


def in_turns(runs: int, *sides: Callable[[], T]) -> list[tuple[T, ...]]:
    """Run all sides `runs` times one after the other, each leading in its turn.

    A machine that grows slower on the way then slows all sides alike.
    """
    found = []
    for run in range(runs):
        lead = run % len(sides)
        order = [*range(lead, len(sides)), *range(lead)]
        measured = {number: sides[number]() for number in order}
        found.append(tuple(measured[number] for number in range(len(sides))))
        sys.stderr.write(f"  {run + 1} of {runs}\n")
    return found
