"""Rows of jobs in an embedded Supabase, for the sides that tell one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.child import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.sandbox.jobs_app import JobsApp


@contextmanager
def jobs_app() -> Iterator[JobsApp]:
    """A job database while inside; it makes this process bigger, see `child.Cost`."""
    from agent.sandbox.jobs_app import JobsApp
    from agent.sandbox.postgres import Cluster

    with Cluster() as cluster, JobsApp(cluster) as app:
        yield app


def begin(app: JobsApp, endpoint: str, status: str = "running") -> dict[str, str]:
    """A new job whose model may be on that Hub: the variables its pod is given."""
    app.allow_hub(endpoint)
    return app.environ(app.add_job(status=status))


def completed_at(app: JobsApp, job: Mapping[str, str]) -> float:
    """When the row was completed by the database's clock, which is this machine's, in Unix seconds.

    Raises:
        BenchError: it does not.
    """
    row = app.row(job["JOB_ID"])
    if row["status"] != "completed" or not row["model_url"]:
        raise BenchError(f"the job's row says {row['status']}, its model is at {row['model_url']}")
    at: float = row["completed_at"].timestamp()
    return at
