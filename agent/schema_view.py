"""The migrations as a table that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from agent.migrations import Migration
    from agent.schema_check import SchemaCheck


def show_list(steps: Sequence[Migration], console: Console) -> None:
    """Print what each migration is for."""
    table = Table("migration", "what it brings")
    for step in steps:
        table.add_row(step.name, Text(step.title))
    console.print(table)


def show_check(answer: SchemaCheck, console: Console) -> None:
    """Print which are in force, and what does not work without the others."""
    if answer.applied is None:
        return
    table = Table("", "migration", "what does not work without it")
    for step in answer.steps:
        missing = step in answer.missing
        table.add_row(Text("✗" if missing else "✓"), step.name, Text(step.without if missing else ""))
    console.print(table)
    if answer.row:
        console.print(Text(f"The row of job {answer.row.id} can be seen; its status is {answer.row.status}."))
