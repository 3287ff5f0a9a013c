"""What a row promises."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Target:
    """Limits of a row; every one that is set must hold for the medians.

    `times` and `plus` limit ours against theirs, pair by pair: at most `times` theirs, and `plus` on top.
    `most` and `least` limit our side alone.
    """

    times: float | None = None
    plus: float = 0.0
    most: float | None = None
    least: float | None = None

    def met(self, ours: float, beyond: float) -> bool:
        """Whether the promise is kept.

        Args:
            ours: the median of our side.
            beyond: the median of what ours has on top of `times` theirs.
        """
        return (
            (self.times is None or beyond <= self.plus)
            and (self.most is None or ours <= self.most)
            and (self.least is None or ours >= self.least)
        )

    def words(self, unit: str) -> str:
        """The limits in words."""
        parts = []
        if self.times is not None:
            against = "theirs" if self.times == 1 else f"{self.times:g} x"
            parts.append(f"≤ {against}" + (f" + {self.plus:g} {unit}" if self.plus else ""))
        if self.most is not None:
            parts.append(f"≤ {self.most:g} {unit}")
        if self.least is not None:
            parts.append(f"≥ {self.least:g} {unit}")
        return ", ".join(parts)

    def as_json(self, unit: str) -> dict[str, Any]:
        """The limits, and in words."""
        return {**asdict(self), "words": self.words(unit)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any] | None) -> Target | None:
        """The target that was written, None for a row without."""
        return cls(told["times"], told["plus"], told["most"], told["least"]) if told else None
