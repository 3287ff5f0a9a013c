"""The two shapes that a table of jobs has: from before the migrations, and with them."""

from __future__ import annotations

from dataclasses import dataclass

from agent.jobs.row import FAILED, MENDABLE, OPEN

NOT_PUBLISHED = (
    "Not published: "  # how a publishing failure begins; all that tells it apart on a legacy table
)
COLUMNS = (
    "id",
    "status",
    "progress",
    "model_url",
    "error_message",
    "started_at",
    "completed_at",
    "updated_at",
)
IS_OPEN = f"status.in.({','.join(OPEN)})"


@dataclass(frozen=True)
class Shape:
    """What a jobs table offers: the columns we read, and how a mendable failure is recognised."""

    columns: tuple[str, ...]
    may_move: str
    legacy: bool


HARDENED = Shape(
    (*COLUMNS, "result_note", "failure_stage"),
    f"{IS_OPEN},and(status.eq.{FAILED},failure_stage.in.({','.join(MENDABLE)}))",
    legacy=False,
)
# The table from before the migrations: nothing on the server keeps times, stages or tokens apart.
LEGACY = Shape(
    (*COLUMNS, "job_token"),
    f'{IS_OPEN},and(status.eq.{FAILED},error_message.like."{NOT_PUBLISHED}*")',
    legacy=True,
)
