"""The audit trail as the job database keeps it: one row an event, told once however often it is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.jobs.row import clean_message

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = "model_upload_events"
KEY = "job_id,event_key"  # what makes an event sent again the same event
SHOWN = (
    "job_id",
    "event_key",
    "event",
    "source",
    "repo_id",
    "commit_sha",
    "model_url",
    "bytes",
    "files",
    "from_status",
    "to_status",
    "detail",
    "happened_at",
    "created_at",
)
# As the table's check lists them; status_changed is the database's own.
_EVENTS = {
    "started",
    "gate_refused",
    "repo_created",
    "content_uploaded",
    "committed",
    "verified",
    "recorded",
    "record_rejected",
    "failed",
    "interrupted",
    "rolled_back",
    "released",
}
_COLUMNS = {  # of what the journal calls by these names
    "repo_id": "repo_id",
    "commit": "commit_sha",
    "model_url": "model_url",
    "bytes": "bytes",
    "files": "files",
}
_LONGEST_DETAIL = 4000  # characters of one of its texts; the table takes 16 kB of JSON


def as_row(job_id: str, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the table is to hold of an entry of the journal's trail; None if it is nothing for the table."""
    if entry.get("event") not in _EVENTS or not entry.get("key"):
        return None
    row = {"job_id": job_id, "event_key": entry["key"], "event": entry["event"], "happened_at": entry["time"]}
    rest = {name: value for name, value in entry.items() if name not in {"key", "event", "time"}}
    columns = {column: rest.pop(name, None) for name, column in _COLUMNS.items()}
    detail = {name: _short(value) for name, value in rest.items()}
    return row | columns | {"detail": detail if len(json.dumps(detail)) <= 3 * _LONGEST_DETAIL else {}}


def as_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the trail, as the journal writes them, from a row of the table."""
    facts = {name: row[column] for name, column in _COLUMNS.items()}
    facts |= {"from": row["from_status"], "to": row["to_status"]} | dict(row["detail"] or {})
    known = {name: value for name, value in facts.items() if value is not None}
    head = {"time": row["happened_at"] or row["created_at"], "key": row["event_key"], "event": row["event"]}
    return head | {"source": row["source"]} | known


def _short(value: object) -> object:
    return clean_message(value)[:_LONGEST_DETAIL] if isinstance(value, str) else value
