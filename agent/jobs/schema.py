"""Which migrations the job database has, as far as a pod may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.jobs.connection import Connection
from agent.jobs.refusals import as_error
from agent.retry import ROW_LOOK, RemoteFailure

if TYPE_CHECKING:
    from agent.database_config import JobDatabase
    from agent.retry import Patience

_FUNCTION, _COLUMNS = "agent_migrations", ("version", "applied")
_NO_FUNCTION = "PGRST202"


def applied(database: JobDatabase, job_id: str, patience: Patience) -> set[str]:
    """The versions in force; none of a database from before the migrations, which cannot say so.

    Raises:
        JobRefusedError: the key or the address is wrong.
        JobUnreachableError: the database does not answer.
    """
    connection = Connection(database)
    try:
        found = patience.call(ROW_LOOK, lambda: connection.call(_FUNCTION, _COLUMNS))
    except RemoteFailure as failure:
        if failure.code == _NO_FUNCTION:
            return set()
        raise as_error(failure, database, job_id) from failure
    finally:
        connection.close()
    return {row["version"] for row in found if row["applied"] is True}
