"""The events of `history` as lines that a person reads, and greps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.history import History

_SHORT_OID, _SHORT_JOB = 12, 8
_MOST = 1 << 63  # no file has as many bytes; a damaged trail may say so
_SAID_APART = {
    "time", "event", "key", "pid", "job", "source", "commit", "repo_id", "bytes", "files", "steps",
    "rolled_back_to",
}  # fmt: skip


def show(history: History) -> None:
    """Print one line an event; without JOB_ID each begins with its job."""
    if not history.events:
        click.echo(f"Nothing is known in {history.where}.")
        return
    several = len({event.get("job") for event in history.events}) > 1
    lines = [_line(event, several=several) for event in history.events]
    *columns, _ = zip(*lines, strict=True)
    form = "  ".join([*(f"{{:{max(map(len, column))}}}" for column in columns), "{}"])
    click.echo("\n".join([form.format(*line).rstrip() for line in lines]))


def clock(moment: object) -> str:
    """A moment in ISO 8601 as people read it."""
    return str(moment or "-")[:19].replace("T", " ")


def size(count: object) -> str:
    """Bytes as people say them."""
    return decimal(count) if isinstance(count, int) and 0 <= count < _MOST else "?"


def facts(event: Mapping[str, Any]) -> str:
    """What is known of an event, on one line."""
    told = _facts(event)
    if not told.isprintable():
        told = "".join(letter if letter.isprintable() else " " for letter in told)
    return " ".join(told.split())


def _line(event: Mapping[str, Any], *, several: bool) -> list[str]:
    # A folder's prefix tells none of them apart.
    job = [re.sub("^(unnamed|repo)-", "", str(event.get("job")))[:_SHORT_JOB]] if several else []
    by = "row" if event.get("source") == "trigger" else "pod"
    return [*job, clock(event.get("time")), by, str(event["event"]), facts(event)]


def _facts(event: Mapping[str, Any]) -> str:
    if "to" in event:
        before, after = event.get("from"), event["to"]
        moved = f"{before} → {after}" if before != after else str(after)
        return f"{moved} {event.get('model_url') or ''}"
    told = [str(event["repo_id"])] if "repo_id" in event else []
    told += [str(event["commit"])[:_SHORT_OID]] if "commit" in event else []
    if "rolled_back_to" in event:
        told.append(f"the files of {str(event['rolled_back_to'])[:_SHORT_OID]} again")
    told += [f"{event['files']} files"] if "files" in event else []
    told += [size(event["bytes"])] if isinstance(event.get("bytes"), int) else []
    told += [
        f"{name} {value}" for name, value in event.items() if name not in _SAID_APART and value is not None
    ]
    return ", ".join(told)
