"""How big, how often, how fast, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SHORT_FACTOR = 3  # what takes a second is run this much more often
_FAST_FACTOR = 2.5


@dataclass(frozen=True)
class Settings:
    """What a person asked for; sizes and rates that a row needs beside them grow and shrink with them."""

    tmp: Path
    size_mb: float
    runs: int
    rate_mb_s: float

    @property
    def short_runs(self) -> int:
        """How often to run what takes a second."""
        return self.runs * SHORT_FACTOR

    @property
    def fast_mb_s(self) -> float:
        """The bandwidth of a better network."""
        return self.rate_mb_s * _FAST_FACTOR


def gigabytes(size_mb: float) -> str:
    """A size in words."""
    return f"{size_mb / 1000:g} GB"


def speed(rate_mb_s: float | None) -> str:
    """A bandwidth in words."""
    return f"at {rate_mb_s:g} MB/s" if rate_mb_s else "unthrottled"
