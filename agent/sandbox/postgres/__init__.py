"""A real PostgreSQL server for the demo and the tests, and the SQL it is set up with."""

from importlib.resources import files

from agent.sandbox.postgres.binaries import PostgresError
from agent.sandbox.postgres.cluster import Cluster

__all__ = ["Cluster", "PostgresError", "sql"]


def sql(name: str) -> str:
    """Read agent/sandbox/sql/<name>.sql."""
    return files("agent.sandbox").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
