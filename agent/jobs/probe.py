"""Whether the row may be written as finalize writes it, found out without changing it.

The row's own values are written into it in a transaction that the server takes back, because more rows
were affected than the request allows (https://postgrest.org/en/stable/references/api/preferences.html,
`max-affected`): none. Rights, policies and triggers all had their say, and nothing is left: no heartbeat
that would make a training which sends no more of them look like a lost pod, no event, nothing that
anybody listening sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.clocks import ahead_s
from agent.jobs.connection import Connection
from agent.jobs.refusals import as_error
from agent.retry import ROW_LOOK, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from agent.database_config import JobDatabase
    from agent.retry import Patience

_WRITTEN = ("status", "progress", "model_url", "error_message", "started_at")
_HARDENED = (*_WRITTEN, "failure_stage", "result_note")
_LEGACY = (*_WRITTEN, "completed_at", "updated_at")
_ROUNDS = 2  # a row whose status changed meanwhile looks as if no write reached it
_NO_COLUMN, _TAKEN_BACK, _NO_SUCH_WISH = "42703", "PGRST124", "PGRST122"


@dataclass(frozen=True)
class Rehearsal:
    """How writing the row went.

    Attributes:
        writable: None where the server cannot take a write back, so that none was tried.
        legacy: the table is from before the migrations.
        ahead_s: by how many seconds our clock is ahead of the server's; None: it told no time.
    """

    writable: bool | None
    legacy: bool
    ahead_s: float | None


def rehearse(
    database: JobDatabase, job_id: str, patience: Patience, now: Callable[[], datetime]
) -> Rehearsal:
    """Write the row without changing it. Repeating it is as harmless, and so is a lost answer.

    Raises:
        JobRefusedError: the row cannot be seen, or a right, a policy or a trigger refuses the write.
        JobUnreachableError: the database does not answer.
    """
    connection = _Probe(database, now)
    try:
        for _ in range(_ROUNDS):
            legacy, row = patience.call(ROW_LOOK, lambda: connection.whole(job_id))
            writable = patience.call(ROW_LOOK, partial(connection.take_back, row, job_id)) if row else False
            if writable is not False:
                break
    except RemoteFailure as failure:
        raise as_error(failure, database, job_id) from failure
    finally:
        connection.close()
    return Rehearsal(writable, legacy, connection.ahead_s)


class _Probe(Connection):
    def __init__(self, database: JobDatabase, now: Callable[[], datetime]) -> None:
        super().__init__(database)
        self._now = now
        self.ahead_s: float | None = None

    def whole(self, job_id: str) -> tuple[bool, dict[str, Any]]:
        """Whether the table is a legacy one, and what finalize writes of the row; nothing if it is gone."""
        try:
            found = self.select(("id", *_HARDENED), job_id)
        except RemoteFailure as failure:
            if failure.code != _NO_COLUMN:
                raise
            return True, _first(self.select(("id", *_LEGACY), job_id))
        return False, _first(found)

    def take_back(self, row: Mapping[str, Any], job_id: str) -> bool | None:
        """Write these values, and let the server undo it; None if it cannot.

        Servers from before PostgREST 12 know no such wish and would commit: the status is compared, so
        that even there nothing but the heartbeat moves.
        """
        values = {name: value for name, value in row.items() if name != "id"}
        query = self._rest.from_(self._table).update(values).eq("id", job_id).eq("status", row["status"])
        try:
            written = self._answer(query.select("id").max_affected(0))
        except RemoteFailure as failure:
            if failure.code == _NO_SUCH_WISH:
                return None
            if failure.code != _TAKEN_BACK:
                raise
            return True
        finally:
            self._keep_time()
        return bool(written)

    def _keep_time(self) -> None:
        response = self._last.response
        self.ahead_s = ahead_s(self._now(), response.headers) if response is not None else None


def _first(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return rows[0] if rows else {}
