"""What the job's row will say to a publication, found out before there is one; nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.jobs.local import LocalStore
from agent.jobs.row import COMPLETED, FAILED, Row, refusal
from agent.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from agent.config import Config
    from agent.database_config import JobDatabase
    from agent.retry import Patience


class RowSurvey:
    """The row as a finalize with this configuration will meet it.

    Attributes:
        row: what it says; None as long as nobody has seen it.
        ahead_s: by how many seconds our clock is ahead of the database's; None: it told no time.
    """

    def __init__(self, config: Config, patience: Patience, now: Callable[[], datetime]) -> None:
        self._config, self._patience, self._now = config, patience, now
        self.row: Row | None = None
        self.ahead_s: float | None = None
        if config.job_database:  # loaded here: threads that import at once wait for each other
            from agent.jobs.supabase import SupabaseStore

            self._store = SupabaseStore(config.job_database, str(config.job_id), patience)

    def ask(self) -> Iterator[Check]:
        """Look whether the row can be seen and written.

        Raises:
            JobRefusedError, JobUnreachableError: as finalize would meet them.
        """
        database, job_id = self._config.job_database, self._config.job_id
        if job_id is None:
            yield Check.fine("job row", "a local file, named after the content: JOB_ID is not set")
        elif database is None:
            self.row = LocalStore(self._config.state_dir / str(job_id), str(job_id)).read()
            yield Check.fine(
                "job row", f"a local file below {self._config.state_dir}: SUPABASE_URL is not set"
            )
        else:
            yield from self._of_database(database, str(job_id))

    def _of_database(self, database: JobDatabase, job_id: str) -> Iterator[Check]:
        from agent.jobs.probe import rehearse
        from agent.jobs.refusals import unchangeable
        from agent.jobs.supabase import NO_RIGHTS

        try:
            row = self.row = self._store.read()
        finally:
            self._store.close()
        yield Check.fine("job row", f"{job_id} can be seen in {database.table} of {database.url}")
        if not row.may_move:
            return
        tried = rehearse(database, job_id, self._patience, self._now)
        self.ahead_s = tried.ahead_s
        if tried.legacy:
            cure = "Let the platform's owner run what it prints; publishing works without, too."
            yield Check.note("job rights", NO_RIGHTS, cure)
        if tried.writable is None:
            yield Check.note(
                "row writable",
                "not tried: this job database cannot take a write back (PostgREST before 12.2)",
                "Nothing is to be done; finalize says so if it cannot write the row.",
            )
        elif tried.writable:
            yield Check.fine("row writable", "written with its own values, and taken back")
        else:
            yield Check.refused("row writable", unchangeable(database, job_id))


def outlook(row: Row, model_url: str | None) -> Check:
    """What becomes of a row like this when a model is published to that address."""
    name = "row status"
    if row.may_move:
        mended = f", stage {row.failure_stage}: publishing mends it" if row.status == FAILED else ""
        return Check.fine(name, f"{row.status}{mended}")
    if row.status == COMPLETED and row.model_url is None:
        return Check.fine(name, "completed by something else; it will receive its model_url")
    if row.status == COMPLETED and model_url in {None, row.model_url}:
        return Check.note(
            name,
            f"already completed with {row.model_url}: `run` does not train it again, the row stays as it is",
            "Give a new training a JOB_ID of its own.",
        )
    return Check.refused(name, refusal(row, model_url))
