"""The table a person reads."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.measure import NOISY_SPREAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Row, Series
    from bench.results import Group

_LIBRARIES = ("huggingface_hub", "hf_xet")
_WIDTH = 150


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was when it began."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def show(groups: Sequence[Group]) -> None:
    """Print the table, with what it ran on above."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    ran_on = groups[0].ran_on
    console.print(", ".join(f"{name} {value}" for name, value in ran_on.items()), highlight=False)
    table = Table("row", "what", "ours", "theirs", "ratio", "difference", "target", "")
    for group in groups:
        for row in group.rows:
            table.add_row(
                row.group if row is group.rows[0] else "",
                row.what,
                f"{row.our_name}\n{spread(row.ours, row.unit)}",
                f"{row.their_name}\n{spread(row.theirs, row.unit)}",
                spread(row.ratio, "x"),
                f"{number(row.difference.median, sign='+')} {row.unit}",
                row.target.words(row.unit) if row.target else "",
                verdict(row),
            )
        table.add_section()
    console.print(table)
    console.print(
        f"median (min-max); ~ noisy: spread over {NOISY_SPREAD:.0%} of the median; ratio: pair by pair"
    )


def spread(found: Series, unit: str) -> str:
    """The median with its range, marked if it is noisy."""
    low, high = min(found.values), max(found.values)
    mark = "~" if found.noisy else ""
    if low == high:
        return f"{mark}{number(found.median)} {unit}"
    return f"{mark}{number(found.median)} {unit} ({number(low)}-{number(high)})"


def number(value: float, sign: str = "") -> str:
    """Three digits that matter."""
    whole = abs(value) >= 100 or value == int(value)
    return f"{value:{sign}.0f}" if whole else f"{value:{sign}.3g}"


def verdict(row: Row) -> str:
    """Whether the promise was kept, in a word."""
    if row.met is None:
        return ""
    return "met" if row.met else "MISSED"
