"""The job's row as one finalize sees it: asked before the upload, kept warm during it, told at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent import outbox
from agent.errors import AgentError, Interrupted, JobRefusedError, JobUnreachableError
from agent.jobs import (
    PUBLISH,
    RUNNING,
    TRAINING,
    Heartbeat,
    JobStore,
    LocalStore,
    Row,
    clean_message,
    refusal,
)
from agent.journal import Journal, Lock
from agent.log import get_logger
from agent.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from uuid import UUID

    from agent.config import Config
    from agent.outcome import Outcome

_LAST_WORDS_S = 1.2  # of the two seconds a signal leaves
_CONTINUE = "run finalize again, it continues where it stopped"
_MOST_EVENTS = 500  # in one request


@contextlib.contextmanager
def alone(config: Config, outcome: Outcome, folder: Path) -> Iterator[Job]:
    """The row and its journal in `folder`, for a few words; no finalize is at work on them meanwhile."""
    patience = Patience(config.stall_s, config.deadline_s)
    with Lock(folder, patience):
        job = Job(config, outcome, patience, Journal(folder))
        try:
            yield job
            job.report()
        finally:
            outcome.retries.update(patience.retries)
            job.close()


class Job:
    """The row of JOB_ID, wherever it lives; without one, a local row named after the content.

    The model comes first: a row that cannot be read or started delays nothing and stops nothing, it is
    asked again when the proof is there. Only a row that says no (cancelled, training failed) stops us.
    """

    def __init__(self, config: Config, outcome: Outcome, patience: Patience, journal: Journal) -> None:
        self._config, self._outcome, self._patience, self._journal = config, outcome, patience, journal
        self._store: JobStore | None = self._open(config.job_id) if config.job_id else None
        self._row: Row | None = None
        self._refused = self._silent = False
        self._heartbeat = Heartbeat(None)
        outcome.job_id = str(config.job_id) if config.job_id else None

    def deliver(self) -> None:
        """Tell the row what an earlier run could not; a row that says no has the last word."""
        if self._store and self._config.job_id:
            outbox.deliver(self._journal, self._store, str(self._config.job_id))

    def look(self) -> None:
        """Read the row.

        Raises:
            JobRefusedError: somebody cancelled the job, or knows that its training failed.
        """
        if self._store:
            self._try(self._store.read)

    @property
    def training_started(self) -> datetime | None:
        """When the platform says that the training began; None if it does not say so.

        A local row does not count: its time is our own.
        """
        begun = self._row.started_at if self._row and self._config.job_database else None
        try:
            return datetime.fromisoformat(begun) if begun else None
        except ValueError:
            return None

    @property
    def row(self) -> Row | None:
        """The row as it was seen last; None if it could not be seen."""
        return self._row

    def now(self) -> Row | None:
        """The row as it is at this moment, whatever it says; None if it cannot be seen."""
        try:
            return self._store.read() if self._store else None
        except AgentError as error:
            get_logger().warning("the job row is out of reach", because=error.message)
            return None

    def start(self, begun_ns: int) -> None:
        """Say in the row that the work goes on, unless the row could not even be read.

        Args:
            begun_ns: when it had begun at the latest, for a row without started_at. Of weights that are there
                it is the moment they were written: no later run may take them for older than their training.

        Raises:
            JobRefusedError: it was cancelled meanwhile.
        """
        if self._store and self._row:
            store = self._store
            begun_by = datetime.fromtimestamp(min(begun_ns / 1e9, time.time()), UTC)
            self._try(lambda: store.start(begun_by.isoformat(timespec="milliseconds")))

    def working(self, training: Callable[[], Mapping[str, float]] | None = None) -> Heartbeat:
        """A context that keeps the row warm, also one that could not be reached before.

        Args:
            training: tells, by column, how far the training came.
        """
        warm = self._store and (self._row is None or self._row.status == RUNNING) and not self._refused
        self._heartbeat = Heartbeat((lambda: self._beat(training)) if warm else None)
        return self._heartbeat

    def _beat(self, training: Callable[[], Mapping[str, float]] | None) -> Row:
        assert self._store
        row = self._store.beat(training=training() if training else None)
        self._silent = False
        self.report()
        return row

    def hear(self, training: Mapping[str, float]) -> None:
        """Tell how far the training came in the end; once, for who looks at the row."""
        if self._store is None or self._silent or not training:
            return
        try:
            self._store.beat(training=training)
        except AgentError as error:
            get_logger().warning("the job row was not told how far the training came", because=error.message)

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
        letter = {"kind": "complete", "job_id": str(job_id), "model_url": model_url, "note": note}
        self._outcome.job_status = None  # until the answer is there nobody knows what the row says
        self._note(outbox.send(self._journal, self._store, letter))

    def interrupt(self, stop: Interrupted, what_next: str = _CONTINUE) -> None:
        """Try once, for a moment, to let the row say what comes next."""
        if self._store is None or self._row is None or self._row.status != RUNNING:
            return
        store, rows = self._store, []

        def tell() -> None:
            with contextlib.suppress(Exception):  # one attempt; whatever it meets, the process is leaving
                rows.append(store.beat(f"{stop}; {what_next}"))

        attempt = threading.Thread(target=tell, name="last words", daemon=True)
        attempt.start()
        attempt.join(_LAST_WORDS_S)
        if rows:
            self._outcome.job_status = rows[0].status

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
        self._fail(self._store, message, PUBLISH)

    def give_up(self, message: str) -> None:
        """Let the row say that nobody keeps trying to publish; finalize run again mends it."""
        if self._store:
            self._fail(self._store, message, PUBLISH)

    def fail_training(self, message: str) -> None:
        """Let the row say that there will be no model: final, but never over a cancelled or completed row."""
        if self._store:
            self._fail(self._store, message, TRAINING)

    def _fail(self, store: JobStore, message: str, stage: str) -> None:
        job_id = self._outcome.job_id
        letter = {"kind": "fail", "job_id": job_id, "message": clean_message(message), "stage": stage}
        self._outcome.job_status = None
        try:
            self._outcome.job_status = outbox.send(self._journal, store, letter).status
        except AgentError as error:
            self._silent = isinstance(error, JobUnreachableError)
            get_logger().error("the failure could not be recorded in the job row", because=error.message)

    def remark(self, sentence: str) -> None:
        """Let the row say this too, also when the job is over; if it cannot, the log says so."""
        if self._store is None:
            return
        try:
            told, because = self._store.remark(sentence), "it has no place for it, or cannot be seen"
        except AgentError as error:
            told, because = False, error.message
            self._silent = isinstance(error, JobUnreachableError)
        if not told:
            get_logger().warning("the job row does not say so", sentence=sentence, because=because)

    def note(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Add an event to the audit trail; `report` passes it on."""
        self._journal.note(event, **facts)

    def report(self) -> None:
        """Tell the job database's audit trail what happened; asked once, the next beat is the retry."""
        entries = self._journal.untold[:_MOST_EVENTS]
        if self._store is None or self._silent or not entries:
            return
        try:
            if self._store.report(entries):
                self._journal.told(entries)
        except AgentError as error:
            get_logger().warning("the audit trail of the job database was not told", because=error.message)

    def close(self) -> None:
        """Let go of the store."""
        if self._store:
            self._store.close()

    def _try(self, ask: Callable[[], Row]) -> None:
        self._row = self._outcome.job_status = None
        try:
            row = ask()
        except (JobRefusedError, JobUnreachableError) as error:
            self._refused, self._silent = isinstance(error, JobRefusedError), True
            self._patience.progress()  # the silence of this server is not the Hub's
            get_logger().warning(
                "the job row is out of reach; the model is published first",
                because=error.message,
                hint=error.hint,
            )
            return
        self._note(row)

    def _note(self, row: Row) -> None:
        self._row, self._silent = row, False
        self._outcome.job_id, self._outcome.job_status = row.id, row.status
        if row.forbids_publishing:
            raise refusal(row, None)

    def _open(self, job_id: UUID) -> JobStore:
        database = self._config.job_database
        if database is None:
            return LocalStore(self._config.state_dir / str(job_id), str(job_id))
        from agent.jobs.supabase import SupabaseStore

        return SupabaseStore(database, str(job_id), self._patience)
