"""The answer of `preflight` as a table that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from agent.log import redact

if TYPE_CHECKING:
    from rich.console import Console

    from agent.preflight import Preflight

_MARKS = {"ok": Text("✓", "green"), "warning": Text("!", "yellow"), "error": Text("✗", "red")}


def show(answer: Preflight, console: Console) -> None:
    """Print every check with its cure; of a configuration that cannot be read the error says all."""
    if not answer.checks:
        return
    table = Table("", "check", "what was found → what to do")
    table.columns[2].overflow = "fold"
    for check in answer.checks:
        told = f"{check.said}\n→ {check.cure}" if check.cure else check.said
        table.add_row(_MARKS[check.verdict], check.name, Text(redact(told)))
    console.print(table)
    if answer.error is None:
        console.print("Ready.", style="green")
