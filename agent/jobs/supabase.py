"""A job row in Supabase: compare-and-set from the statuses it may leave, every answer read back."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from agent.errors import JobRefusedError
from agent.jobs import events
from agent.jobs.connection import Connection
from agent.jobs.refusals import as_error, differs, invisible, unchangeable
from agent.jobs.row import (
    COMPLETED,
    FAILED,
    LOST,
    METRICS,
    OPEN,
    PUBLISH,
    RUNNING,
    Row,
    clean_message,
    further,
    refusal,
)
from agent.jobs.shape import COLUMNS, HARDENED, IS_OPEN, LEGACY, NOT_PUBLISHED, Shape
from agent.log import get_logger
from agent.retry import ROW_LOOK, ROW_WRITE, Policy, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.database_config import JobDatabase
    from agent.retry import Patience

T = TypeVar("T")

NO_RIGHTS = (
    "the job table has no per-job rights: anybody with the public key reads the token of every job, "
    "and completes or redirects any; `python -m agent migrations` prints what it needs"
)
_NO_COLUMN, _UNKNOWN_COLUMN, _NO_RIGHT, _NO_TABLE = "42703", "PGRST204", "42501", "PGRST205"
_NOTE, _NO_PLACE = "note_on_job", {"PGRST202", "42883", "23514"}  # no such function, or it is full
_ATTACH = f"and(status.eq.{COMPLETED},model_url.is.null)"
_NOT_TAKEN = (_NO_COLUMN, _UNKNOWN_COLUMN, _NO_RIGHT, "22", "23")  # beginnings: no place, no right, a rule
_COMPARED = {"status", "progress", "model_url", "error_message", "failure_stage"}
_ROUNDS = 3  # of compare-and-set; a row that keeps slipping away is being written by somebody else


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class SupabaseStore:
    """The row with the job's id in a table of a Supabase project."""

    def __init__(
        self, database: JobDatabase, job_id: str, patience: Patience, now: Callable[[], str] = _utc
    ) -> None:
        self._database, self._job_id, self._patience, self._now = database, job_id, patience, now
        self._connection = Connection(database)
        self._known_shape: Shape | None = None
        self._keeps_no_trail = self._keeps_no_metrics = False
        self._seen: Row | None = None

    def read(self) -> Row:
        """The row as it is now; a database that is down is asked a few times only."""
        return self._read(ROW_LOOK)

    def start(self, begun_by: str | None = None) -> Row:
        """Set `running` where that may still be said."""
        row = self._seen or self.read()
        if not row.may_move:
            return row
        changes: dict[str, Any] = {"status": RUNNING}
        if row.started_at is None:
            changes["started_at"] = begun_by or self._now()
        if row.status == FAILED:
            changes |= {"error_message": None, "failure_stage": None}
        if row.result_note is not None:
            changes["result_note"] = None
        return self._set(changes, None, ROW_LOOK) or self._read(ROW_LOOK)

    def beat(self, note: str | None = None, training: Mapping[str, float] | None = None) -> Row:
        """Move the heartbeat of a running job; one that was taken for lost, or never started, is running."""
        seen = self._seen or self._read(None)  # the shape of the table decides what a beat looks like
        changes: dict[str, Any] = {"status": RUNNING} | ({"result_note": clean_message(note)} if note else {})
        where, training = f"status.eq.{RUNNING}", training or {}
        told = {name: training[name] for name in METRICS if math.isfinite(training.get(name, math.nan))}
        progress = further(seen, training)
        row = None
        if progress is not None:  # only ever forward, whoever else writes it at this moment
            forward = f"and({where},or(progress.is.null,progress.lte.{progress}))"
            try:
                row = self._set(changes | told | {"progress": progress}, forward, None)
            except JobRefusedError as error:  # to be alive is worth more than to be far
                get_logger().debug("the job row does not take the progress", because=error.message)
        row = row or self._set(changes | told, where, None) or self._read(None)
        if row.status in OPEN and row.status != RUNNING:
            return self._set(changes, IS_OPEN, None) or row
        if row.failure_stage == LOST:
            found = {"error_message": None, "failure_stage": None}
            return self._set(changes | found, f"failure_stage.eq.{LOST}", None) or row
        return row

    def complete(self, *, model_url: str | None, note: str | None) -> Row:
        """Set `completed` with progress 100 and the model's address, and read it back."""
        done: dict[str, Any] = {"status": COMPLETED, "progress": 100, "model_url": model_url}
        done |= {"error_message": None, "failure_stage": None}
        done |= {"result_note": clean_message(note) if note else None}
        row, written = self._seen, False
        if row is None or not row.may_move:
            row = self._read(ROW_WRITE)
        for _ in range(_ROUNDS):
            if row.may_move:
                written = self._set(done, None, ROW_WRITE) is not None
            elif _lacks(row, model_url):
                self._set({"model_url": model_url, "result_note": None}, _ATTACH, ROW_WRITE)
            else:
                break
            row = self._read(ROW_WRITE)
        if row.may_move or _lacks(row, model_url):
            raise unchangeable(self._database, self._job_id)
        if row.status != COMPLETED or model_url not in {None, row.model_url}:
            raise refusal(row, model_url)
        if written and row.progress != done["progress"]:
            raise differs(self._database, self._job_id, {"progress": row.progress})
        return row

    def fail(self, *, message: str, stage: str) -> Row:
        """Set `failed` with the reason where that may still be said."""
        row = self._seen or self._read(ROW_WRITE)
        if not row.may_move:
            return row
        if self._shape.legacy and stage == PUBLISH:
            message = NOT_PUBLISHED + message
        changes = {"status": FAILED, "error_message": clean_message(message), "failure_stage": stage}
        return self._set(changes, None, ROW_WRITE) or self._read(ROW_WRITE)

    def remark(self, note: str) -> bool:
        """Add a sentence to the row's result_note, whatever its status; twice is once.

        False: the note is full, nothing opens such a row, or the database lacks the migration last_words.
        """
        told = {"job": self._job_id, "note": clean_message(note)}
        try:
            return self._patience.call(ROW_WRITE, lambda: self._connection.ask(_NOTE, told))
        except RemoteFailure as failure:
            if failure.code in _NO_PLACE:
                return False
            raise as_error(failure, self._database, self._job_id) from failure

    def report(self, entries: Sequence[Mapping[str, Any]]) -> bool:
        """Add what happened to the audit trail beside the row; asked once. False: the database keeps none."""
        rows = [row for entry in entries if (row := events.as_row(self._job_id, entry))]
        if self._shape.legacy or self._keeps_no_trail:
            return False
        try:
            if rows:
                self._call(None, lambda: self._connection.add(events.TABLE, rows, key=events.KEY))
        except JobRefusedError:
            self._keeps_no_trail = True  # asked once a run: it is missing, or it does not take ours
            raise
        return True

    def trail(self, limit: int) -> list[dict[str, Any]] | None:
        """The last `limit` entries of the audit trail, oldest first; None: the database keeps none."""
        try:
            found = self._patience.call(
                ROW_LOOK, lambda: self._connection.newest(events.TABLE, events.SHOWN, self._job_id, limit)
            )
        except RemoteFailure as failure:
            if failure.code == _NO_TABLE:
                return None
            raise as_error(failure, self._database, self._job_id) from failure
        once = {row["event_key"]: row for row in reversed(found)}  # one may have come while we turned pages
        return [events.as_entry(row) for row in once.values()]

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    @property
    def _shape(self) -> Shape:
        return self._known_shape or HARDENED

    def _read(self, policy: Policy | None) -> Row:
        found = self._call(policy, self._rows)
        token = self._database.token
        # On a legacy table a filter by token would put it into the URL, and so into logs: compared here.
        if not found or (token and found[0].get("job_token") not in {None, token}):
            raise invisible(self._database, self._job_id)
        self._seen = self._row(found[0])
        return self._seen

    def _rows(self) -> list[dict[str, Any]]:
        """The rows; also finds out which shape the table has, and whether it was migrated meanwhile."""
        try:
            found = self._connection.select(self._shape.columns, self._job_id)
        except RemoteFailure as failure:
            if failure.code != (_NO_RIGHT if self._shape.legacy else _NO_COLUMN):
                raise
            other = HARDENED if self._shape.legacy else LEGACY
            found = self._connection.select(other.columns, self._job_id)
            self._known_shape = other
            if other.legacy:
                get_logger().warning(NO_RIGHTS, table=self._database.table)
        self._known_shape = self._shape
        return found

    def _set(self, changes: dict[str, Any], where: str | None, policy: Policy | None) -> Row | None:
        """Change the row if `where` holds and return it; the same again after a lost answer does no harm.

        Without `where`: if its status is one that we may leave.
        """
        found = self._call(policy, lambda: self._update(changes, where))
        if found is None:
            return None
        other = {
            name: found[name]
            for name in _COMPARED & changes.keys() & found.keys()
            if found[name] != changes[name]
        }
        if other:
            raise differs(self._database, self._job_id, other)
        self._seen = self._row(found)
        return self._seen

    def _update(self, changes: Mapping[str, Any], where: str | None) -> dict[str, Any] | None:
        try:
            return self._update_as(self._shape, changes, where)
        except RemoteFailure as failure:
            shape = self._shape
            if failure.code in {_NO_RIGHT, _NO_COLUMN, _UNKNOWN_COLUMN}:
                self._rows()
            if self._shape is shape and not self._refuses_metrics(changes, failure):
                raise
            return self._update_as(self._shape, changes, where)

    def _refuses_metrics(self, changes: Mapping[str, Any], failure: RemoteFailure) -> bool:
        """Whether it may be the metrics that the table does not take; then it gets none from now on."""
        may_be = (failure.code or "").startswith(_NOT_TAKEN) and not changes.keys().isdisjoint(METRICS)
        if self._keeps_no_metrics or not may_be:
            return False
        self._keeps_no_metrics = True
        get_logger().warning(
            "the job table does not take the metrics of a training, only its progress",
            table=self._database.table,
            because=failure.words,
        )
        return True

    def _update_as(
        self, shape: Shape, changes: Mapping[str, Any], where: str | None
    ) -> dict[str, Any] | None:
        unknown = METRICS if self._keeps_no_metrics else ()
        wanted = {name: value for name, value in changes.items() if name not in unknown}
        if shape.legacy:
            wanted = {name: wanted[name] for name in wanted if name in {*COLUMNS, *METRICS}}
            wanted["updated_at"] = self._now()
            if wanted.get("status") == COMPLETED:
                wanted["completed_at"] = wanted["updated_at"]
        columns = [name for name in shape.columns if name != "job_token"]
        return self._connection.update(wanted, columns, self._job_id, where=where or shape.may_move)

    def _call(self, policy: Policy | None, attempt: Callable[[], T]) -> T:
        try:
            return self._patience.call(policy, attempt) if policy else attempt()
        except RemoteFailure as failure:
            raise as_error(failure, self._database, self._job_id) from failure

    def _row(self, found: dict[str, Any]) -> Row:
        texts = {
            field.name: str(found[field.name])
            for field in fields(Row)
            if field.name != "progress" and found.get(field.name) is not None
        }
        if self._shape.legacy and texts.get("error_message", "").startswith(NOT_PUBLISHED):
            texts["failure_stage"] = PUBLISH
        progress = found["progress"]  # PostgreSQL's NaN arrives as a string
        return Row(**texts, progress=float(progress) if isinstance(progress, int | float) else 0.0)


def _lacks(row: Row, model_url: str | None) -> bool:
    """Whether something else completed the job and its row still waits for the address."""
    return row.status == COMPLETED and row.model_url is None and model_url is not None
