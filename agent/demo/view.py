"""The demo's findings, as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from agent.demo.shown import Shown

_CARD_LINES = 14


def show(console: Console, shown: Shown) -> None:
    """Print files, card, seconds, row, second run, and every claim that did not hold."""
    files = Table(title="\nDownloaded again with the real client", title_justify="left")
    files.add_column("file", no_wrap=True)
    files.add_column("size", justify="right")
    files.add_column("sha256")
    files.add_column("from")
    files.add_column("equal")
    for file in shown.files:
        mark = "[green]✓[/]" if file["equal"] else "[red]✗[/]"
        files.add_row(file["path"], f"{file['size']:,}", file["sha256"][:12], file["from"], mark)
    console.print(files)

    if shown.card:
        ours = shown.card.partition("<!-- training-agent:begin -->\n")[2]
        lines = ours.splitlines()[:_CARD_LINES]
        console.print("\n[bold]What the card says[/]")
        console.print("\n".join(f"  │ {line}" for line in lines), markup=False)

    steps = shown.outcome.get("steps", {})
    seconds = " · ".join(f"{name} {took:.2f}" for name, took in steps.items())
    console.print(f"\n[bold]Seconds[/]  {seconds}", soft_wrap=True)

    row = Table(title="\nThe job row, read from PostgreSQL before and after", title_justify="left")
    row.add_column("column", no_wrap=True)
    row.add_column("before", no_wrap=True)
    row.add_column("after", overflow="fold")
    for name, value in shown.row.items():
        row.add_row(name, _told(shown.row_before[name]), _told(value), style=_style(shown, name))
    console.print(row)
    opened = " · ".join(f"{who} {count}" for who, count in shown.opened.items())
    console.print(f"\n[bold]Rows shown to[/]  {opened}", soft_wrap=True)
    if shown.second:
        console.print(
            f"\n[bold]Run again[/]  {shown.second['uploaded_bytes']} bytes sent, "
            f"{shown.commits - 1} new commits, {shown.second['wall_s']} s"
        )
    for claim in shown.untrue:
        console.print(f"[red]not true:[/] {claim}")
    console.print(
        "\n[green bold]Everything above is true.[/]"
        if not shown.untrue
        else "\n[red bold]The demo failed.[/]"
    )


def _told(value: object) -> str:
    return "-" if value is None else str(value)


def _style(shown: Shown, name: str) -> str:
    return "" if shown.row[name] == shown.row_before[name] else "green"
