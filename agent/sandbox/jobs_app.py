"""The platform that rents the pod: its job database, and what its web app does with it."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from agent.sandbox.postgres import Cluster, sql
from agent.sandbox.rest import Rest

if TYPE_CHECKING:
    from types import TracebackType

HARDENED = ("roles", "jobs_table", "weak_policies", "secure_jobs")
LEGACY = HARDENED[:-1]
TABLE = "local_training_jobs"


@dataclass(frozen=True)
class JobSecret:
    """What the app hands to a pod: the id of its row and the token that opens it."""

    id: str
    token: str


class JobsApp:
    """A Supabase project with one table of training jobs, running inside `with`.

    Args:
        cluster: the PostgreSQL server to make its database in.
        hardened: rows open with their own token only; otherwise the table as apps without it ship it.
    """

    def __init__(self, cluster: Cluster, *, hardened: bool = True) -> None:
        self._cluster = cluster
        scripts = HARDENED if hardened else LEGACY
        self._template = cluster.template(f"jobs_{len(scripts)}", *(sql(name) for name in scripts))

    def __enter__(self) -> Self:
        self.database = self._cluster.create_database(self._template)
        self.rest = Rest(self._cluster.dsn(self.database, "authenticator")).start()
        self.url, self.key = self.rest.endpoint, self.rest.publishable_key
        self.owner = str(self.sql("insert into auth.users (email) values ('ada@lab') returning id")[0]["id"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest.close()
        self._cluster.drop_database(self.database)

    def sql(self, query: str, *values: object, past_triggers: bool = False) -> list[dict[str, Any]]:
        """Run one statement past all rights, and return its rows."""
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(self._cluster.dsn(self.database), row_factory=dict_row) as connection:
            if past_triggers:
                connection.execute("set session_replication_role = replica")
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def add_job(self, *, status: str = "running", token: str | None = None, **columns: object) -> JobSecret:
        """Insert a job as the app's server does, and return what its pod is told."""
        job = JobSecret(str(uuid.uuid4()), token or secrets.token_urlsafe(32))
        row = {
            "id": job.id,
            "user_id": self.owner,
            "model_name": "m",
            "status": status,
            "job_token": job.token,
        }
        row |= columns
        places = ", ".join(["%s"] * len(row))
        self.sql(f"insert into {TABLE} ({', '.join(row)}) values ({places})", *row.values())  # noqa: S608
        return job

    def row(self, job_id: str) -> dict[str, Any]:
        """The whole row."""
        return self.sql(f"select * from {TABLE} where id = %s", job_id)[0]  # noqa: S608

    def change(self, job_id: str, **columns: object) -> None:
        """Change a row past all rights and triggers."""
        settings = ", ".join(f"{name} = %s" for name in columns)
        statement = f"update {TABLE} set {settings} where id = %s"  # noqa: S608
        self.sql(statement, *columns.values(), job_id, past_triggers=True)

    def allow_hub(self, origin: str) -> None:
        """Let rows point to models on this Hub."""
        self.sql("insert into private.model_hosts values (%s) on conflict do nothing", origin)

    def environ(self, job: JobSecret) -> dict[str, str]:
        """The variables that the app sets in the pod of a job."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_ANON_KEY": self.key,
            "JOB_ID": job.id,
            "JOB_TOKEN": job.token,
        }
