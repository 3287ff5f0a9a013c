"""`migrations --check`: what the job database is missing, told from the pod's own rights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import migrations
from agent.errors import ConfigError, JobRefusedError

if TYPE_CHECKING:
    from agent.config import Config
    from agent.jobs import Row
    from agent.migrations import Migration
    from agent.retry import Patience


@dataclass
class SchemaCheck:
    """What is in force; `applied` is None as long as the database was not asked."""

    applied: set[str] | None = None
    row: Row | None = None
    steps: list[Migration] = field(default_factory=migrations.load)
    error: dict[str, str] | None = None

    @property
    def missing(self) -> list[Migration]:
        """The migrations that are not in force."""
        return [step for step in self.steps if step.version not in (self.applied or ())]

    def failed(self, _error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note what is wrong."""
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: every migration, and the row if it can be seen."""
        known = self.applied is not None
        steps = [
            {"name": one.name, "applied": one not in self.missing if known else None, "without": one.without}
            for one in self.steps
        ]
        job = {"id": self.row.id, "status": self.row.status} if self.row else None
        return {"migrations": steps, "job": job, "error": self.error}


def check_database(config: Config, answer: SchemaCheck, patience: Patience) -> None:
    """Ask the job database what is in force, and whether this job's row can be seen; nothing is changed.

    Raises:
        ConfigError: no job database is configured.
        JobRefusedError: something is missing, or the row cannot be seen.
        JobUnreachableError: the database does not answer.
    """
    database = config.job_database
    if database is None or config.job_id is None:
        raise ConfigError(
            "There is no job database to check.",
            hint="Set SUPABASE_URL, SUPABASE_ANON_KEY, JOB_ID and JOB_TOKEN as the pod has them.",
        )
    from agent.jobs.schema import applied
    from agent.jobs.supabase import SupabaseStore

    answer.applied = applied(database, str(config.job_id), patience)
    store = SupabaseStore(database, str(config.job_id), patience)
    try:
        answer.row = store.read()
    finally:
        store.close()
    if answer.missing:
        number = "None" if len(answer.missing) == len(answer.steps) else "Not every one"
        raise JobRefusedError(
            f"{number} of the {len(answer.steps)} migrations is in force in {database.url}.",
            hint="A finalize works all the same, without what they bring. The platform's owner runs "
            "`supabase db push`, or what `python -m agent migrations all` prints.",
        )
