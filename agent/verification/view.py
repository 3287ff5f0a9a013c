"""The answer of `verify` as a person reads it: short when all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from agent.log import redact
from agent.verification.flaws import printable

if TYPE_CHECKING:
    from rich.console import Console

    from agent.verification import Verification

_LINES = 20  # of a list that a person reads
_SHORT_OID = 12


def show(answer: Verification, console: Console) -> None:
    """Print what was looked at, every finding with its cure, and the verdict."""
    seen = answer.examination
    if seen is None:
        return
    size = decimal(sum(entry.size_bytes for entry in seen.tree.values()))
    looked = f"  {answer.revision} at {str(answer.commit)[:_SHORT_OID]}, {len(seen.tree):,} files, {size}"
    console.print(Text.assemble((str(answer.repo_id), "bold"), looked))
    flaws = sorted(answer.flaws, key=lambda flaw: not flaw.refuses)
    if flaws:
        table = Table("file", "verdict", "what was found → what to do")
        table.columns[0].overflow = table.columns[-1].overflow = "fold"
        for flaw in flaws[:_LINES]:
            said, cure = printable(flaw.found), printable(flaw.cure)
            told = f"{said}\n→ {cure}" if cure else said
            mark = Text(flaw.verdict, "red" if flaw.refuses else "yellow")
            table.add_row(Text(redact(printable(flaw.path))), mark, Text(redact(told)))
        if len(flaws) > _LINES:
            table.add_row(f"… and {len(flaws) - _LINES:,} more; --json lists all", "", "")
        console.print(table)
    if answer.error is None:
        read = " Every byte was read back." if answer.download else ""
        proven = sum(file["verdict"] in {"proven", "witness"} for file in seen.files())
        console.print(f"Proven: {proven:,} files are what {answer.witness} says.{read}", style="green")
