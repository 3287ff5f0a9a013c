"""The way to the job database: the official client with its traps closed, one request a call.

Without redirects (a 302 turns a PATCH into a GET that looks like success), without the client's own
retries (they sleep unseen and multiply with ours), with the token in a header only, and with every
answer checked: a 200 may carry a proxy's HTML or half a JSON document.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from agent.retry import RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx
    from postgrest import APIError

    from agent.database_config import JobDatabase

CONNECT_S, ANSWER_S = 5.0, 15.0
NO_ROW = "PGRST116"
ROWS_AT_ONCE = 1000  # a hosted project answers with no more, unless its owner says otherwise
# What passes by itself, of the errors that arrive as a 500: conflicts, locks, timeouts, restarts, full pools.
_PASSING = ("40", "53", "55P03", "57014", "57P", "58", "PGRST00")
_SERVER_ERROR, _PROJECT_PAUSED = 500, 540
_REDIRECT = range(300, 400)
# PostgreSQL prints the refused row here, secrets of other columns included.
_SHOWS_A_ROW = "Failing row contains"


class Connection:
    """A Supabase project as one job's pod sees it; usable from several threads."""

    def __init__(self, database: JobDatabase) -> None:
        import httpx

        from supabase import ClientOptions, create_client

        self._http = httpx.Client(
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            follow_redirects=False,
            event_hooks={"response": [self._keep]},
        )
        self._last = threading.local()
        options = ClientOptions(
            httpx_client=self._http,
            headers={"x-job-token": database.token} if database.token else {},
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,
        )
        self._table = database.table
        self._rest = create_client(database.url, database.key, options).postgrest

    def select(self, columns: Sequence[str], job_id: str) -> list[dict[str, Any]]:
        """The job's rows that we may see: none, or one.

        Raises:
            RemoteFailure: in the server's words, with its code.
        """
        data = self._answer(self._rest.from_(self._table).select(*columns).eq("id", job_id))
        if isinstance(data, list) and all(_is_row(row, job_id, columns) for row in data):
            return data
        raise self._nonsense(data)

    def update(
        self, changes: Mapping[str, Any], columns: Sequence[str], job_id: str, *, where: str
    ) -> dict[str, Any] | None:
        """Change the job's row if `where` (an or-tree of PostgREST) holds, and return it; else None.

        A lost answer leaves the outcome unknown: read, or send the same again.

        Raises:
            RemoteFailure: in the server's words, with its code.
        """
        query = self._rest.from_(self._table).update(dict(changes)).eq("id", job_id).or_(where)
        try:
            data = self._answer(query.select(*columns).single())
        except RemoteFailure as failure:
            if failure.code == NO_ROW and "0 rows" in failure.words:
                return None
            raise
        if isinstance(data, dict) and _is_row(data, job_id, columns):
            return data
        raise self._nonsense(data)

    def add(self, table: str, rows: Sequence[Mapping[str, Any]], *, key: str) -> None:
        """Insert rows of one make into another table; those whose `key` it has already change nothing.

        Raises:
            RemoteFailure: in the server's words, with its code; all of them are in the table, or none.
        """
        from postgrest.types import ReturnMethod

        self._answer(
            self._rest.from_(table).upsert(
                [dict(row) for row in rows],
                on_conflict=key,
                ignore_duplicates=True,
                returning=ReturnMethod.minimal,  # the table shows less than it takes
            )
        )

    def newest(self, table: str, columns: Sequence[str], job_id: str, limit: int) -> list[dict[str, Any]]:
        """The last `limit` rows of the job in another table, newest first, however few come in one answer.

        Raises:
            RemoteFailure: in the server's words, with its code.
        """
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            asked = min(ROWS_AT_ONCE, limit - len(found))
            query = self._rest.from_(table).select(*columns).eq("job_id", job_id)
            # What was told in one request was created at one time; with the key every answer has one order.
            query = query.order("created_at", desc=True).order("happened_at", desc=True).order("event_key")
            page = self._rows_with(columns, self._answer(query.range(len(found), len(found) + asked - 1)))
            found += page
            if len(page) < asked:
                break
        return found

    def call(self, function: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that a function of the database returns.

        Raises:
            RemoteFailure: in the server's words, with its code.
        """
        return self._rows_with(columns, self._answer(self._rest.rpc(function, {}, get=True)))

    def ask(self, function: str, arguments: Mapping[str, Any]) -> bool:
        """Have a function of the database change something, and return what it says of that: yes or no.

        A lost answer leaves the outcome unknown.

        Raises:
            RemoteFailure: in the server's words, with its code.
        """
        data = self._answer(self._rest.rpc(function, dict(arguments)))
        if isinstance(data, bool):
            return data
        raise self._nonsense(data)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _rows_with(self, columns: Sequence[str], data: object) -> list[dict[str, Any]]:
        if isinstance(data, list) and all(_has(row, columns) for row in data):
            return data
        raise self._nonsense(data)

    def _answer(self, query: Any) -> Any:  # noqa: ANN401 - a builder of any kind, whatever JSON arrived
        import httpx
        from postgrest import APIError

        self._last.response = None
        try:
            return query.execute().data
        except APIError as error:
            raise self._failure(error) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise RemoteFailure(_words(error), status=None) from error

    def _keep(self, response: httpx.Response) -> None:
        """Remember what the client's own errors leave out: status and headers."""
        self._last.response = response

    def _failure(self, error: APIError) -> RemoteFailure:
        response: httpx.Response | None = self._last.response
        status = response.status_code if response is not None else None
        headers: Mapping[str, str] = response.headers if response is not None else {}
        said = [error.message, error.details, error.hint]
        words = " ".join(str(part).strip() for part in said if part and _SHOWS_A_ROW not in str(part))
        if status in _REDIRECT:
            words = f"redirects to {headers.get('location', 'nowhere')}"
        return RemoteFailure(
            f"{status} {error.code or ''}: {words or 'no reason given'}".replace(" :", ":"),
            status=status,
            code=error.code,
            retry_after_s=_seconds(headers.get("retry-after")),
            final=_is_final(status, error.code),
        )

    def _nonsense(self, data: object) -> RemoteFailure:
        response: httpx.Response | None = self._last.response
        kind = response.headers.get("content-type", "nothing") if response is not None else "nothing"
        return RemoteFailure(
            f"answers with something else than was asked for ({kind}, {len(str(data))} characters)",
            status=None,
        )


def _has(row: object, columns: Sequence[str]) -> bool:
    return isinstance(row, dict) and all(name in row for name in columns)


def _is_row(row: object, job_id: str, columns: Sequence[str]) -> bool:
    return isinstance(row, dict) and row.get("id") == job_id and _has(row, columns)


def _is_final(status: int | None, code: str | None) -> bool:
    """Whether a server error will be met again: the database itself answered, or the project is paused."""
    if status == _PROJECT_PAUSED:
        return True
    by_database = code is not None and not code.isdigit()
    return status == _SERVER_ERROR and by_database and not str(code).startswith(_PASSING)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
