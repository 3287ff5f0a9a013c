"""What a row is told for good: written down before it is sent, so that the next run can tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import JobRefusedError, JobUnreachableError
from agent.jobs import PUBLISH, JobStore, Row
from agent.journal import seal
from agent.log import get_logger

if TYPE_CHECKING:
    from agent.journal import Journal


def send(journal: Journal, store: JobStore, letter: dict[str, Any]) -> Row:
    """Tell the row, so that what cannot be told now is told by the next run.

    Raises:
        JobRefusedError: the row does not take it, and never will.
        JobUnreachableError: nobody knows what the row says now; the letter waits.
    """
    journal.post(letter)
    try:
        row = _tell(store, letter)
    except JobRefusedError as error:
        journal.note("record_rejected", because=error.message)
        journal.post(None)
        raise
    _note_recorded(journal, letter, row)
    journal.post(None)
    return row


def deliver(journal: Journal, store: JobStore, job_id: str) -> None:
    """Tell the row what an earlier run could not; a row that says no has the last word."""
    letter = journal.outbox
    if letter is None or letter.get("job_id") != job_id:
        return
    try:
        store.read()  # asked a few times only: a database that is still down delays nothing
        row = _tell(store, letter)
    except JobUnreachableError as error:
        get_logger().warning("the job row still waits for what happened before", because=error.message)
        return
    except JobRefusedError as error:
        get_logger().warning("the job row does not take what happened before", because=error.message)
        journal.note("record_rejected", because=error.message)
    else:
        get_logger().info("told the job row what happened before", status=row.status)
        _note_recorded(journal, letter, row)
    journal.post(None)


def _note_recorded(journal: Journal, letter: dict[str, Any], row: Row) -> None:
    journal.note("recorded", once=seal(letter)[:16], status=row.status, model_url=row.model_url)


def _tell(store: JobStore, letter: dict[str, Any]) -> Row:
    if letter["kind"] == "complete":
        return store.complete(model_url=letter["model_url"], note=letter["note"])
    return store.fail(message=letter["message"], stage=letter.get("stage", PUBLISH))
