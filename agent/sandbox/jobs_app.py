"""The platform that rents the pod: its job database, and what its web app does with it."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from agent import migrations
from agent.sandbox.postgres import Cluster, sql
from agent.sandbox.rest import Rest

if TYPE_CHECKING:
    from types import TracebackType

    from psycopg import Connection

AS_SHIPPED = ("roles", "jobs_table", "weak_policies")
TABLE = "local_training_jobs"
ACTIVE = ("pending", "queued", "running", "paused", "uploading")


@dataclass(frozen=True)
class JobSecret:
    """What the app hands to a pod: the id of its row and the token that opens it."""

    id: str
    token: str


class JobsApp:
    """A Supabase project with one table of training jobs, running inside `with`.

    Args:
        cluster: the PostgreSQL server to make its database in.
        hardened: with all migrations; otherwise the table as apps without them ship it.
    """

    def __init__(self, cluster: Cluster, *, hardened: bool = True) -> None:
        self._cluster = cluster
        steps = [step.sql for step in migrations.load()] if hardened else []
        scripts = [sql(name) for name in AS_SHIPPED] + steps
        self._template = cluster.template("hardened_jobs" if hardened else "jobs", *scripts)

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

    def connect(self) -> Connection[dict[str, Any]]:
        """A session of the database's owner; its rows are dictionaries."""
        import psycopg
        from psycopg.rows import dict_row

        return psycopg.connect(self._cluster.dsn(self.database), row_factory=dict_row)

    def sql(self, query: str, *values: object, past_triggers: bool = False) -> list[dict[str, Any]]:
        """Run one statement past all rights, and return its rows."""
        with self.connect() as connection:
            if past_triggers:
                connection.execute("set session_replication_role = replica")
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def add_job(self, *, status: str = "running", token: str | None = None, **columns: object) -> JobSecret:
        """Insert a job as the app's server does, and return what its pod is told."""
        job = JobSecret(str(uuid.uuid4()), token or secrets.token_urlsafe(32))
        row: dict[str, Any] = {
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

    def cancel(self, job_id: str) -> bool:
        """Cancel an active job as its owner does in the app; False if it was not active any more."""
        owner = self.rest.jwt(role="authenticated", sub=self.owner)
        active = f"in.({','.join(ACTIVE)})"
        return bool(self._ask("PATCH", job_id, {"status": "cancelled"}, status=active, jwt=owner))

    def visible_rows(self, job_id: str, token: str | None) -> int:
        """How many rows of a job somebody sees who holds the public key and this token."""
        return len(self._ask("GET", job_id, None, token=token))

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

    def _ask(
        self,
        method: str,
        job_id: str,
        changes: dict[str, Any] | None,
        *,
        status: str | None = None,
        token: str | None = None,
        jwt: str | None = None,
    ) -> list[Any]:
        """Send one request as somebody else than the pod does, and return the rows it answers with."""
        import httpx

        headers = {"apikey": self.key, "Authorization": f"Bearer {jwt or self.key}"}
        headers |= {"x-job-token": token} if token else {}
        headers |= {"Prefer": "return=representation"} if changes else {}
        params = {"id": f"eq.{job_id}", "select": "id"} | ({"status": status} if status else {})
        answer = httpx.request(
            method, f"{self.url}/rest/v1/{TABLE}", params=params, json=changes, headers=headers
        )
        rows: list[Any] = answer.raise_for_status().json()
        return rows
