"""The job row: what everybody who waits for the model looks at, and the rules of its status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import JobRefusedError
from agent.log import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNNING, COMPLETED, FAILED, CANCELLED = "running", "completed", "failed", "cancelled"
OPEN = ("pending", "queued", "running", "paused", "uploading")
PUBLISH, LOST, TRAINING = "publish", "lost", "training"
MENDABLE = (PUBLISH, LOST)  # a failed training is final; these two are mended by publishing
LONGEST_MESSAGE = 8000
MOST_BEFORE_THE_END = 99.0  # percent; 100 is what only completed says
# What a training tells beside its progress: nothing depends on it, and not every table has it.
METRICS = (
    "current_step",
    "current_epoch",
    "total_steps",
    "total_epochs",
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "samples_per_second",
    "gpu_memory_allocated_gb",
    "gpu_memory_reserved_gb",
    "elapsed_seconds",
    "remaining_seconds",
)


@dataclass(frozen=True)
class Row:
    """One job as its store shows it; times are ISO 8601 in UTC, progress is 0 to 100."""

    id: str
    status: str = "pending"
    progress: float = 0.0
    model_url: str | None = None
    error_message: str | None = None
    failure_stage: str | None = None
    result_note: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    updated_at: str | None = None

    @property
    def may_move(self) -> bool:
        """Whether the agent may change the status: the job is open, or publishing would mend it."""
        return self.status in OPEN or (self.status == FAILED and self.failure_stage in MENDABLE)

    @property
    def forbids_publishing(self) -> bool:
        """Whether somebody decided that there is no model to publish: a cancel, or a failed training."""
        return self.status == CANCELLED or (self.status == FAILED and self.failure_stage == TRAINING)


class JobStore(Protocol):
    """Where one job's row lives. Every write is a compare-and-set that is read back.

    A row that may not be moved is left as it is and returned as it is: the caller reads its status.

    Raises:
        JobRefusedError: from each method, when there is no such row or it cannot be read or written.
        JobUnreachableError: from each method, when the store does not answer.
    """

    def read(self) -> Row:
        """The row as it is now."""
        ...

    def start(self, begun_by: str | None = None) -> Row:
        """Say that the work goes on.

        Args:
            begun_by: when the training had begun at the latest, for a row that nobody gave a started_at.
        """
        ...

    def beat(self, note: str | None = None, training: Mapping[str, float] | None = None) -> Row:
        """Say that we are alive, or what happens now; asked once, never again: the next beat is the retry.

        Args:
            note: a sentence for people.
            training: how far the training is: `progress`, which never goes back nor above 99 by this, and
                METRICS, of which a store keeps those that it has a place for.
        """
        ...

    def complete(self, *, model_url: str | None, note: str | None) -> Row:
        """Say that all is done. Only ever called with a proof in hand; repeating it changes nothing.

        A row that something else completed may still receive its model_url, once.

        Raises:
            JobRefusedError: the row says something else and may not be moved.
        """
        ...

    def fail(self, *, message: str, stage: str) -> Row:
        """Say what went wrong, and at which stage."""
        ...

    def remark(self, note: str) -> bool:
        """Add a sentence to the row's result_note, in every status; nothing else changes. True: it is there.

        A sentence that is there already is not added again. False: there is no place for it, or no such row.
        """
        ...

    def report(self, entries: Sequence[Mapping[str, Any]]) -> bool:
        """Add what happened to the audit trail beside the row; asked once. False: the store keeps none."""
        ...

    def trail(self, limit: int) -> list[dict[str, Any]] | None:
        """The last `limit` entries of that audit trail, oldest first; None: the store keeps none."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def further(row: Row, training: Mapping[str, float]) -> float | None:
    """The progress of a training, if it is more than the row shows; None leaves the row's as it is."""
    progress = training.get("progress", math.nan)
    reached = min(progress, MOST_BEFORE_THE_END)
    return reached if math.isfinite(progress) and reached > row.progress else None


def refusal(row: Row, model_url: str | None) -> JobRefusedError:
    """Why this row does not become completed with that address, and what to do."""
    if row.status == CANCELLED:
        return JobRefusedError(
            f"Job {row.id} was cancelled.",
            hint="If its model is wanted after all, publish it under a new JOB_ID.",
        )
    if row.status == COMPLETED:
        return JobRefusedError(
            f"Job {row.id} is already completed with {row.model_url}, not {model_url}.",
            hint="Give this publication a JOB_ID of its own.",
        )
    if row.status == FAILED:
        return JobRefusedError(
            f"The training of job {row.id} failed: {row.error_message}",
            hint="Train again under a new JOB_ID; a failed training is final.",
        )
    return JobRefusedError(
        f"Job {row.id} has the status {row.status!r}, which is not changed.",
        hint="Set the row to running if the job is to be completed, then run again.",
    )


def clean_message(text: str) -> str:
    """Cut a message to what every store holds, without secrets and what databases refuse.

    Refused are NUL and halves of surrogate pairs, which undecodable file names bring along.
    """
    whole = redact(text).replace("\0", "").encode("utf-8", "replace").decode()
    return whole[:LONGEST_MESSAGE]
