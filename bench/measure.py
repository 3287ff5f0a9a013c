"""Numbers measured in turns: two sides, their medians, and how far a number can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")

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
class Target:
    """What a row promises; every limit that is set must hold for the medians.

    `ratio` and `difference` limit ours against theirs, `ours` limits our side alone.
    """

    ratio: float | None = None
    difference: float | None = None
    ours: float | None = None

    def met(self, row: Row) -> bool:
        """Whether the row keeps the promise."""
        pairs = (
            (self.ratio, row.ratio.median),
            (self.difference, row.difference.median),
            (self.ours, row.ours.median),
        )
        return all(limit is None or found <= limit for limit, found in pairs)

    def words(self, unit: str) -> str:
        """The limits in words."""
        parts = []
        if self.ratio is not None:
            parts.append(f"≤ {self.ratio:g} x")
        if self.difference is not None:
            parts.append(f"≤ +{self.difference:g} {unit}")
        if self.ours is not None:
            parts.append(f"≤ {self.ours:g} {unit}")
        return ", ".join(parts)


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
        return Series(
            tuple(
                a / b if b else float("inf")
                for a, b in zip(self.ours.values, self.theirs.values, strict=True)
            )
        )

    @property
    def difference(self) -> Series:
        """Ours less theirs, pair by pair."""
        return Series(tuple(a - b for a, b in zip(self.ours.values, self.theirs.values, strict=True)))

    @property
    def noisy(self) -> bool:
        """Whether either side is."""
        return self.ours.noisy or self.theirs.noisy

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return self.target.met(self) if self.target else None

    def as_json(self) -> dict[str, Any]:
        """The row with every value behind it."""
        return {
            "group": self.group,
            "what": self.what,
            "unit": self.unit,
            "ours": {"name": self.our_name, **self.ours.as_json()},
            "theirs": {"name": self.their_name, **self.theirs.as_json()},
            "ratio": self.ratio.as_json(),
            "difference": self.difference.as_json(),
            "noisy": self.noisy,
            "target": self.target.words(self.unit) if self.target else None,
            "met": self.met,
        }


def in_turns(ours: Callable[[], Ours], theirs: Callable[[], Theirs], runs: int) -> list[tuple[Ours, Theirs]]:
    """Run both sides `runs` times one after the other, each leading every second time.

    A machine that grows slower on the way then slows both sides alike.
    """
    pairs = []
    for run in range(runs):
        if run % 2:
            second = theirs()
            pairs.append((ours(), second))
        else:
            first = ours()
            pairs.append((first, theirs()))
    return pairs


def series(values: Sequence[float]) -> Series:
    """Make a series of what was measured."""
    return Series(tuple(values))
