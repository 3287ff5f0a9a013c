"""The job's row as one finalize sees it: asked before the upload, kept warm during it, told at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import AgentError, JobRefusedError, JobUnreachableError
from agent.jobs import PUBLISH, RUNNING, Heartbeat, JobStore, LocalStore, Row, refusal
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from agent.config import Config
    from agent.outcome import Outcome
    from agent.retry import Patience


class Job:
    """The row of JOB_ID, wherever it lives; without one, a local row named after the content.

    The model comes first: a row that cannot be read or started delays nothing and stops nothing, it is
    asked again when the proof is there. Only a row that says no (cancelled, training failed) stops us.
    """

    def __init__(self, config: Config, outcome: Outcome, patience: Patience) -> None:
        self._config, self._outcome, self._patience = config, outcome, patience
        self._store: JobStore | None = self._open(config.job_id) if config.job_id else None
        self._row: Row | None = None
        self._heartbeat = Heartbeat(None)
        outcome.job_id = str(config.job_id) if config.job_id else None

    def look(self) -> None:
        """Read the row.

        Raises:
            JobRefusedError: somebody cancelled the job, or knows that its training failed.
        """
        if self._store:
            self._try(self._store.read)

    def start(self) -> None:
        """Say in the row that the work goes on, unless the row could not even be read.

        Raises:
            JobRefusedError: it was cancelled meanwhile.
        """
        if self._store and self._row:
            self._try(self._store.start)

    def working(self) -> Heartbeat:
        """A context that keeps a running row warm."""
        beats = self._store if self._row and self._row.status == RUNNING else None
        self._heartbeat = Heartbeat(beats)
        return self._heartbeat

    def check(self) -> None:
        """Notice what the heartbeat saw.

        Raises:
            JobRefusedError: it was cancelled while we worked.
        """
        if self._heartbeat.row:
            self._note(self._heartbeat.row)

    def complete(self, job_id: UUID, *, model_url: str | None, note: str | None) -> None:
        """Let the row say completed; only ever called with a proof in hand, or with nothing to publish.

        Raises:
            JobRefusedError: the row cannot say so.
            JobUnreachableError: its database does not answer.
        """
        self._store = self._store or self._open(job_id)
        self._outcome.job_status = None  # until the answer is there nobody knows what the row says
        self._note(self._store.complete(model_url=model_url, note=note))

    def settle(self, error: Exception, *, job_id: UUID | None, where: str) -> None:
        """Let the row say why this ended, unless a rerun mends it; never over a cancelled or completed row.

        Args:
            error: what ended the story.
            job_id: the job, if it is known only from the content.
            where: a sentence that says where the model is now.
        """
        if self._store is None and job_id:
            self._store = self._open(job_id)
        if self._store is None or (isinstance(error, AgentError) and error.retryable):
            return
        if isinstance(error, AgentError):
            message = f"{error.code}: {error.message} {error.hint} {where}"
        else:
            message = f"bug: {type(error).__name__}: {error} {where}"
        self._outcome.job_status = None
        try:
            self._outcome.job_status = self._store.fail(message=message, stage=PUBLISH).status
        except AgentError as second:
            get_logger().error("the failure could not be recorded in the job row", because=second.message)

    def close(self) -> None:
        """Let go of the store."""
        if self._store:
            self._store.close()

    def _try(self, ask: Callable[[], Row]) -> None:
        self._row = self._outcome.job_status = None
        try:
            row = ask()
        except (JobRefusedError, JobUnreachableError) as error:
            get_logger().warning(
                "the job row is out of reach; the model is published first",
                because=error.message,
                hint=error.hint,
            )
            return
        self._note(row)

    def _note(self, row: Row) -> None:
        self._row = row
        self._outcome.job_id, self._outcome.job_status = row.id, row.status
        if row.forbids_publishing:
            raise refusal(row, None)

    def _open(self, job_id: UUID) -> JobStore:
        database = self._config.job_database
        if database is None:
            return LocalStore(self._config.state_dir / str(job_id), str(job_id))
        from agent.jobs.supabase import SupabaseStore

        return SupabaseStore(database, str(job_id), self._patience)
