"""What the job database said no to, as a sentence with a cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, JobRefusedError, JobUnreachableError

if TYPE_CHECKING:
    from agent.database_config import JobDatabase
    from agent.retry import RemoteFailure

MIGRATE = "Bring the table up to date with the SQL of the job database, then run again."
# The most telling beginning of a code comes first.
_CURES = (
    ("PGRST301", "Check SUPABASE_ANON_KEY: it is not a key of this project."),
    ("PGRST303", "Check SUPABASE_ANON_KEY: it is a JWT that is not valid now."),
    ("PGRST30", "Check SUPABASE_ANON_KEY."),
    ("PGRST205", "Check JOBS_TABLE: this project has no such table."),
    ("PGRST204", MIGRATE),
    ("42703", MIGRATE),
    ("42501", f"The role of this key lacks a right to the table. {MIGRATE}"),
    ("23514", "The table refuses this value; is the Hub of HF_ENDPOINT one that it allows?"),
    ("PT409", "The row cannot be changed like this; look at it in the app."),
    ("22P02", "Check that the table's id is a UUID."),
)
_BY_STATUS = {
    301: "Set SUPABASE_URL to the address that answers itself.",
    302: "Set SUPABASE_URL to the address that answers itself.",
    303: "Set SUPABASE_URL to the address that answers itself.",
    307: "Set SUPABASE_URL to the address that answers itself.",
    308: "Set SUPABASE_URL to the address that answers itself.",
    401: "Check SUPABASE_ANON_KEY: is it a key of this project?",
    404: "Check SUPABASE_URL: no Supabase project answers there.",
    540: "The Supabase project is paused: restore it, then run again.",
}


def as_error(failure: RemoteFailure, database: JobDatabase, job_id: str) -> AgentError:
    """The error that a failed call means for the caller, in the server's own words."""
    where = f"The job database {database.url}"
    if failure.transient:
        return JobUnreachableError(
            f"{where} does not answer for job {job_id}: {failure.words}",
            hint="Nothing is lost: run the same command again.",
        )
    by_code = [cure for beginning, cure in _CURES if (failure.code or "").startswith(beginning)]
    cure = (by_code or [_BY_STATUS.get(failure.status or 0, "Check SUPABASE_URL and SUPABASE_ANON_KEY.")])[0]
    return JobRefusedError(f"{where} refuses job {job_id} in {database.table}: {failure.words}", hint=cure)


def invisible(database: JobDatabase, job_id: str) -> JobRefusedError:
    """A wrong id, a wrong token and an expired token look the same from outside, on purpose."""
    shown = "JOB_TOKEN is not set; " if database.token is None else ""
    return JobRefusedError(
        f"Job {job_id} has no row in {database.table} of {database.url} that this pod may see.",
        hint=f"{shown}JOB_ID or JOB_TOKEN is wrong, or the token expired: the database does not tell which.",
    )


def differs(database: JobDatabase, job_id: str, found: dict[str, Any]) -> JobRefusedError:
    """The database answers with other values than were written."""
    told = ", ".join(f"{name} is {value!r}" for name, value in sorted(found.items()))
    return JobRefusedError(
        f"The row of job {job_id} in {database.table} reads back differently than it was written: {told}.",
        hint="A trigger or another program changes this row; look at it in the app.",
    )


def unchangeable(database: JobDatabase, job_id: str) -> JobRefusedError:
    """The row can be read, but no update reaches it."""
    return JobRefusedError(
        f"The row of job {job_id} in {database.table} can be seen but not changed: updates reach no row.",
        hint=f"The table's policies allow no update with this key and token. {MIGRATE}",
    )
