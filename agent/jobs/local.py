"""A job row in a local file, for pods without a job database."""

from __future__ import annotations

import threading
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.durable import write_durably
from agent.errors import JobRefusedError
from agent.jobs.row import (
    COMPLETED,
    FAILED,
    LONGEST_MESSAGE,
    OPEN,
    RUNNING,
    Row,
    clean_message,
    further,
    refusal,
)
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class LocalStore:
    """The row `row.json` in the job's state folder."""

    def __init__(self, folder: Path, job_id: str, now: Callable[[], str] = _utc) -> None:
        self._path, self._job_id, self._now = folder / "row.json", job_id, now
        self._lock = threading.Lock()  # a late heartbeat must not put back the row it read before the end

    def read(self) -> Row:
        """The row; a pending one if none was written yet."""
        try:
            document = self._path.read_bytes()
        except FileNotFoundError:
            return Row(self._job_id)
        except OSError as error:
            # A row that cannot be read now may say cancelled: it is not taken for a missing one.
            if self._path.parent.is_dir():
                raise JobRefusedError(
                    f"The row of job {self._job_id} cannot be read from {self._path}: {error}.",
                    hint="Check the volume that AGENT_STATE_DIR is on, then run again.",
                ) from error
            return Row(self._job_id)
        return _row(self._job_id, document)

    def start(self, begun_by: str | None = None) -> Row:
        """Set `running` where that may still be said."""
        with self._lock:
            row = self.read()
            if not row.may_move:
                return row
            begun = row.started_at or begun_by or self._now()
            return self._write(
                replace(
                    row,
                    status=RUNNING,
                    error_message=None,
                    failure_stage=None,
                    result_note=None,
                    started_at=begun,
                )
            )

    def beat(self, note: str | None = None, training: Mapping[str, float] | None = None) -> Row:
        """Move updated_at of an open job, and its progress; one that never started is running."""
        with self._lock:
            row = self.read()
            if row.status not in OPEN:
                return row
            progress = further(row, training or {}) or row.progress
            note = note or row.result_note
            return self._write(replace(row, status=RUNNING, progress=progress, result_note=note))

    def complete(self, *, model_url: str | None, note: str | None) -> Row:
        """Set `completed` with progress 100; a completed row may still gain the model's address, once."""
        with self._lock:
            row = self.read()
            if row.status == COMPLETED:
                if model_url in {None, row.model_url}:
                    return row
                if row.model_url is None:
                    return self._write(replace(row, model_url=model_url, result_note=None))
            if not row.may_move:
                raise refusal(row, model_url)
            return self._write(
                replace(
                    row,
                    status=COMPLETED,
                    progress=100.0,
                    model_url=model_url,
                    result_note=clean_message(note) if note else None,
                    error_message=None,
                    failure_stage=None,
                    completed_at=self._now(),
                )
            )

    def fail(self, *, message: str, stage: str) -> Row:
        """Set `failed` with the reason where that may still be said."""
        with self._lock:
            row = self.read()
            if not row.may_move:
                return row
            return self._write(
                replace(row, status=FAILED, error_message=clean_message(message), failure_stage=stage)
            )

    def remark(self, note: str) -> bool:
        """Add a sentence to the row's result_note, whatever its status; False: the note is full."""
        note = clean_message(note)
        with self._lock:
            row = self.read()
            held = row.result_note or ""
            if f"\n{note}\n" in f"\n{held}\n":
                return True
            said = f"{held}\n{note}" if held else note
            if len(said) > LONGEST_MESSAGE:
                return False
            self._keep(replace(row, result_note=said))
            return True

    @staticmethod
    def report(_entries: Sequence[Mapping[str, Any]]) -> bool:
        """Nothing: the journal beside the row is the audit trail."""
        return False

    @staticmethod
    def trail(_limit: int) -> None:
        """Nothing: the journal beside the row is the audit trail."""

    def close(self) -> None:
        """Nothing is held open."""

    def _write(self, row: Row) -> Row:
        return self._keep(replace(row, updated_at=self._now()))

    def _keep(self, row: Row) -> Row:
        try:
            write_durably(self._path, asdict(row))
        except OSError as error:
            raise JobRefusedError(
                f"The row of job {row.id} cannot be written to {self._path}: {error.strerror}.",
                hint="Set AGENT_STATE_DIR to a folder that can be written, then run again.",
            ) from error
        found = self.read()
        if found != row:
            raise JobRefusedError(
                f"The row of job {row.id} reads back differently than it was written.",
                hint=f"Look at {self._path}; another process may be writing it.",
            )
        return found


def _row(job_id: str, written: bytes) -> Row:
    """A row from a document; what is damaged in it counts as never written."""
    try:
        document = parse_json(written)
    except ValueError:
        document = {}
    found = document if isinstance(document, dict) else {}
    texts = {
        field.name: found[field.name]
        for field in fields(Row)
        if field.name != "progress" and isinstance(found.get(field.name), str)
    }
    progress = found.get("progress")
    if isinstance(progress, int | float) and 0 <= progress <= 100:  # noqa: PLR2004 - percent
        return Row(**(texts | {"id": job_id, "progress": float(progress)}))
    return Row(**(texts | {"id": job_id}))
