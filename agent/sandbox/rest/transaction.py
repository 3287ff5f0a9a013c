"""One request is one transaction: settings, one statement, checks, and the end of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, AsyncCursor, AsyncRawCursor
from psycopg.pq import TransactionStatus

from agent.sandbox.rest.catalog import read_schema_cache
from agent.sandbox.rest.errors import (
    no_connection,
    no_schema_cache,
    not_singular,
    pool_timeout,
    too_many_affected,
)
from agent.sandbox.rest.pg_errors import from_postgres, unfiltered
from agent.sandbox.rest.schema import SchemaCache
from agent.sandbox.rest.statements import Statement

_SETTLE_S = 10.0

Connection: TypeAlias = AsyncConnection[Any]


@dataclass(frozen=True)
class Transaction:
    """What happens between BEGIN and COMMIT.

    `settings` are applied in order, the role among them. `singular` and `max_affected` roll back unless
    the statement met exactly one row, or not more than so many.
    """

    statement: Statement
    settings: Sequence[tuple[str, str]]
    authenticated: bool
    read_only: bool = False
    isolation: str = "read committed"
    singular: bool = False
    max_affected: int | None = None
    safeupdate: bool = False
    estimates: bool = False
    rolls_back: bool = False


@dataclass(frozen=True)
class Result:
    """The row a statement returned."""

    total: int | None
    count: int
    location: Sequence[str] | None
    body: str
    headers: str | None
    status: str | None
    inserted: int | None


class Database:
    """A pool of at most `pool_size` connections, each for one transaction at a time.

    As with PostgREST, a connection that broke while it was idle fails the request that gets it.
    """

    def __init__(self, dsn: str, *, pool_size: int, pool_timeout_s: float) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._pool_timeout_s = pool_timeout_s
        self._free = asyncio.Semaphore(pool_size)
        self._idle: list[Connection] = []

    async def read_schema_cache(self, schemas: Sequence[str]) -> SchemaCache:
        """Read the schema cache.

        Raises:
            ApiError: PGRST000 or PGRST002.
        """
        async with self._connection() as connection:
            try:
                return await read_schema_cache(connection, schemas)
            except psycopg.Error as error:
                raise no_schema_cache() from error

    async def run(self, work: Transaction) -> Result:
        """Run a transaction and commit it. If the connection breaks at the commit, nobody knows.

        Raises:
            ApiError: what PostgreSQL refused, or a check; the transaction is rolled back.
        """
        async with self._connection() as connection:
            try:
                return await _run(connection, work)
            except psycopg.Error as error:
                raise from_postgres(error, authenticated=work.authenticated) from error

    async def settle(self) -> None:
        """Close every connection; statements of cancelled requests are cancelled before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                for _ in range(self._pool_size):
                    await self._free.acquire()
        self._free = asyncio.Semaphore(self._pool_size)
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            await asyncio.wait_for(self._free.acquire(), self._pool_timeout_s)
        except TimeoutError as error:
            raise pool_timeout() from error
        try:
            connection = self._idle.pop() if self._idle else await _connect(self._dsn)
            try:
                yield connection
            finally:
                if connection.info.transaction_status == TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:
                    await connection.close()
        finally:
            self._free.release()


async def _connect(dsn: str) -> Connection:
    try:
        return await AsyncConnection.connect(dsn, autocommit=True, cursor_factory=AsyncRawCursor)
    except psycopg.OperationalError as error:
        raise no_connection(str(error)) from error


async def _run(connection: Connection, work: Transaction) -> Result:
    access = "READ ONLY" if work.read_only else "READ WRITE"
    await connection.execute(f"BEGIN ISOLATION LEVEL {work.isolation.upper()} {access}".encode())
    names = ", ".join(f"set_config(${i * 2 + 1}, ${i * 2 + 2}, true)" for i in range(len(work.settings)))
    await connection.execute(
        f"SELECT {names}".encode(), [text for setting in work.settings for text in setting]
    )
    if work.safeupdate and work.statement.unfiltered:
        raise unfiltered(work.statement.unfiltered)
    cursor = await connection.execute(work.statement.text.encode(), work.statement.parameters)
    result = Result(*await _only_row(cursor))
    if work.singular and result.count != 1:
        raise not_singular(result.count)
    if work.max_affected is not None and result.count > work.max_affected:
        raise too_many_affected(result.count)
    if work.estimates and work.statement.estimate:
        rows = await _estimate(connection, work.statement.estimate)
        result = replace(result, total=max(rows, result.total or 0))
    if work.rolls_back:
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    await connection.execute("ROLLBACK" if work.rolls_back else "COMMIT")
    return result


async def _estimate(connection: Connection, estimate: Statement) -> int:
    cursor = await connection.execute(estimate.text.encode(), estimate.parameters)
    ((plan,),) = await _only_row(cursor)
    rows: int = plan["Plan"]["Plan Rows"]
    return rows


async def _only_row(cursor: AsyncCursor[Any]) -> Sequence[Any]:
    row: Sequence[Any] | None = await cursor.fetchone()
    assert row is not None  # aggregates and plans have one, whatever they find
    return row
