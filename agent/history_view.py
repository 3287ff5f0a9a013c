"""The events of `history` as lines that a person reads, and greps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.history import History

_SHORT_OID, _SHORT_JOB = 12, 8
_SAID_APART = {"time", "event", "key", "pid", "job", "source", "commit", "repo_id", "bytes", "files", "steps"}


def show(history: History) -> None:
    """Print one line an event; without JOB_ID each begins with its job."""
    if not history.events:
        click.echo(f"Nothing is known in {history.where}.")
        return
    several = len({event.get("job") for event in history.events}) > 1
    lines = [_line(event, several=several) for event in history.events]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    for *cells, told in lines:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        click.echo("  ".join([*padded, told]).rstrip())


def _line(event: Mapping[str, Any], *, several: bool) -> list[str]:
    job = [str(event.get("job"))[:_SHORT_JOB]] if several else []
    by = "row" if event.get("source") == "trigger" else "pod"
    time = str(event.get("time", "-"))[:19].replace("T", " ")
    told = "".join(letter if letter.isprintable() else " " for letter in _facts(event))
    return [*job, time, by, str(event["event"]), " ".join(told.split())]


def _facts(event: Mapping[str, Any]) -> str:
    if "to" in event:
        before, after = event.get("from"), event["to"]
        moved = f"{before} → {after}" if before != after else str(after)
        return f"{moved} {event.get('model_url') or ''}"
    told = [str(event["repo_id"])] if "repo_id" in event else []
    told += [str(event["commit"])[:_SHORT_OID]] if "commit" in event else []
    told += [f"{event['files']} files"] if "files" in event else []
    told += [decimal(event["bytes"])] if isinstance(event.get("bytes"), int) else []
    told += [f"{name} {value}" for name, value in event.items() if name not in _SAID_APART]
    return ", ".join(told)
