"""The events of `history` as a table that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from agent.history import History

_OID = 12  # characters of a commit that a person reads
_ELSEWHERE = {"time", "event", "key", "pid", "job", "source", "commit", "repo_id", "bytes", "files", "steps"}


def show(history: History, console: Console) -> None:
    """Print one line an event."""
    if not history.events:
        console.print(f"Nothing is known in {history.where}.")
        return
    several = len({event.get("job") for event in history.events}) > 1
    table = Table("when (UTC)", *(["job"] if several else []), "event", "by", "what is known of it")
    for event in history.events:
        cells = [_time(event), *([str(event.get("job"))[:8]] if several else []), str(event.get("event"))]
        table.add_row(*map(Text, [*cells, _who(event), _facts(event)]))
    console.print(table)


def _time(event: Mapping[str, Any]) -> str:
    return str(event.get("time", "-"))[:19].replace("T", " ")


def _who(event: Mapping[str, Any]) -> str:
    return "row" if event.get("source") == "trigger" else "pod"


def _facts(event: Mapping[str, Any]) -> str:
    if "to" in event:
        moved = f"{event.get('from')} → {event['to']}" if event.get("from") != event["to"] else event["to"]
        return f"{moved}  {event.get('model_url') or ''}".rstrip()
    told = [str(event["repo_id"])] if "repo_id" in event else []
    told += [str(event["commit"])[:_OID]] if "commit" in event else []
    told += [f"{event['files']} files"] if "files" in event else []
    told += [decimal(event["bytes"])] if isinstance(event.get("bytes"), int) else []
    told += [f"{name} {value}" for name, value in event.items() if name not in _ELSEWHERE]
    return ", ".join(told)
