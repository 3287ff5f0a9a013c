"""What is to be drawn: one image, its panels and their series, ready for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Style = Literal["faint", "line", "points"]


@dataclass(frozen=True)
class Series:
    """Values by optimizer step, in order; None where NaN or an infinity was logged.

    `style` is `faint` (under its own average), `line`, or `points` that are marked one by one.
    """

    split: Literal["training", "evaluation"]
    label: str
    style: Style
    steps: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; a `share` is read against the whole, from 0 to 1."""

    label: str
    series: tuple[Series, ...]
    log_scale: bool = False
    share: bool = False


@dataclass(frozen=True)
class Figure:
    """One image: its `path` in the repo, and a `caption` that holds words and numbers of ours only."""

    path: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    checkpoints: tuple[int, ...] = ()
    best: int | None = None

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Figure:
        """Undo `dataclasses.asdict`, also after a way through JSON."""
        panels = tuple(
            Panel(**{**panel, "series": tuple(Series(**_frozen(series)) for series in panel["series"])})
            for panel in found["panels"]
        )
        return cls(**{**_frozen(found), "panels": panels})


def _frozen(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
