"""The table a person reads, and the JSON document a program reads."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.measure import NOISY_SPREAD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measure import Row, Series

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


def show(rows: Sequence[Row], ran_on: dict[str, Any]) -> None:
    """Print the table, with what it ran on above."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(", ".join(f"{name} {value}" for name, value in ran_on.items()), highlight=False)
    table = Table("row", "what", "ours", "theirs", "ratio", "difference", "target", "")
    previous = None
    for row in rows:
        if previous not in {None, row.group}:
            table.add_section()
        table.add_row(
            row.group if row.group != previous else "",
            row.what,
            f"{row.our_name}\n{_range(row.ours, row.unit)}",
            f"{row.their_name}\n{_range(row.theirs, row.unit)}",
            _range(row.ratio, "x"),
            f"{_number(row.difference.median, sign='+')} {row.unit}",
            row.target.words(row.unit) if row.target else "",
            _verdict(row),
        )
        previous = row.group
    console.print(table)
    console.print(
        f"median (min-max); ~ noisy: spread over {NOISY_SPREAD:.0%} of the median; ratio: pair by pair"
    )


def save(path: Path, rows: Sequence[Row], ran_on: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write everything that was measured as one JSON document."""
    document = {"machine": ran_on, "settings": settings, "rows": [row.as_json() for row in rows]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _range(found: Series, unit: str) -> str:
    low, high = min(found.values), max(found.values)
    mark = "~" if found.noisy else ""
    if low == high:
        return f"{mark}{_number(found.median)} {unit}"
    return f"{mark}{_number(found.median)} {unit} ({_number(low)}-{_number(high)})"


def _number(value: float, sign: str = "") -> str:
    whole = abs(value) >= 100 or value == int(value)
    return f"{value:{sign}.0f}" if whole else f"{value:{sign}.3g}"


def _verdict(row: Row) -> str:
    if row.met is None:
        return ""
    return "met" if row.met else "MISSED"
