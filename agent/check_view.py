"""The answer of `check` as tables that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from agent.checking import Checked
    from agent.inspection import Inspection

_LINES = 20  # of a list that a person reads


def show(checked: Checked, console: Console) -> None:
    """Print what was found; of a folder without any model the error says all."""
    seen = checked.inspection
    if seen is None:
        return
    stock, training = seen.stock, seen.training
    console.print(
        Text.assemble(
            (str(stock.root), "bold"),
            f"  {stock.kind}, {training.method or 'method unknown'}, {len(stock.files):,} files, "
            f"{decimal(stock.size_bytes)}",
        )
    )
    facts = Table.grid(padding=(0, 2))
    facts.add_row("training", Text(_ended(seen)))
    facts.add_row("metrics", Text(_metrics(training.metrics)))
    facts.add_row("weights", Text(_read(seen)))
    console.print(facts)
    rows = [(file.path, f"{file.size_bytes:,}", "") for file in stock.files]
    rows += [(path, "", reason) for path, reason in _folded(stock.left_out)]
    _print_list(console, ("file", "bytes", "stays behind because"), rows)
    found = [
        (one.path or "-", "refused" if one.refuses else "note", one.message)
        for one in sorted(seen.report.findings, key=lambda one: not one.refuses)
    ]
    if found:
        _print_list(console, ("file", "verdict", "what was found"), found)
    if checked.error is None:
        console.print("May be published.", style="green")


def _ended(inspection: Inspection) -> str:
    return f"{inspection.training.ended}: {inspection.training.because}"


def _metrics(metrics: dict[str, float]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in metrics.items() if "loss" in name or "rewards" in name]
    return ", ".join(shown or [f"{name} {value:.4g}" for name, value in list(metrics.items())[:5]]) or "none"


def _read(inspection: Inspection) -> str:
    looked = inspection.report.looked
    if looked is None:
        return "not read (AGENT_CHECK_WEIGHTS=headers)"
    return (
        f"{decimal(looked.bytes_read)} in {looked.tensors_seen:,} of {looked.tensors_total:,} tensors "
        "read for NaN and Inf"
    )


def _folded(left_out: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Files that stay behind, a folder of them in one line."""
    folded: dict[tuple[str, str], int] = {}
    for path, reason in left_out:
        folder, slash, _ = path.partition("/")
        key = (folder + slash, reason)
        folded[key] = folded.get(key, 0) + 1
    return [
        (f"{path} ({count} {'file' if count == 1 else 'files'})" if path.endswith("/") else path, reason)
        for (path, reason), count in folded.items()
    ]


def _print_list(console: Console, titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(*titles)
    table.columns[0].overflow = table.columns[-1].overflow = "fold"
    if titles[1] == "bytes":
        table.columns[1].justify = "right"
    for row in rows[:_LINES]:
        table.add_row(*(Text(cell) for cell in row))
    if len(rows) > _LINES:
        table.add_row(f"… and {len(rows) - _LINES:,} more; --json lists all", *[""] * (len(titles) - 1))
    console.print(table)
