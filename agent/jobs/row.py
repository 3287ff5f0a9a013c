"""The job row: what everybody who waits for the model looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agent.log import redact

RUNNING, COMPLETED, FAILED, CANCELLED = "running", "completed", "failed", "cancelled"
TRAINING = "training"  # the failure stage that is final; a failed publication can be mended
LONGEST_MESSAGE = 8000


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


class JobStore(Protocol):
    """Where one job's row lives. Every write is read back; what cannot be written is an error.

    Raises:
        JobRefusedError: from each write, when the row is cancelled or cannot be written.
    """

    def read(self) -> Row:
        """The row as it is now."""
        ...

    def start(self) -> Row:
        """Say that the work goes on; a completed row stays as it is."""
        ...

    def complete(self, *, model_url: str | None, note: str | None) -> Row:
        """Say that all is done. Only ever called with a proof in hand; repeating it changes nothing."""
        ...

    def fail(self, *, message: str, stage: str) -> Row:
        """Say what went wrong; a completed or cancelled row stays as it is."""
        ...


def clean_message(text: str) -> str:
    """Cut a message to what every store holds, without secrets and the NUL that databases refuse."""
    return redact(text).replace("\0", "")[:LONGEST_MESSAGE]
