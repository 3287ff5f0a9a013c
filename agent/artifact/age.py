"""Weights that cannot be what this training made: they are older than it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.errors import ArtifactError

if TYPE_CHECKING:
    from agent.artifact.inventory import Inventory

CLOCKS_DIFFER_S = 60  # the database's clock told when the training began, the volume's when it saved


def refuse_older(stock: Inventory, started: datetime) -> None:
    """Do nothing if the newest weights were written since the training began.

    Args:
        stock: what would be published.
        started: when the job's row says that the training began.

    Raises:
        ArtifactError: all weights are older.
    """
    newest = stock.newest_weights
    if newest is None:
        return
    written = datetime.fromtimestamp(newest.stamp.mtime_ns / 1e9, UTC)
    if (started - written).total_seconds() > CLOCKS_DIFFER_S:
        raise ArtifactError(
            f"{newest.path} in {stock.root} was written at {written:%Y-%m-%d %H:%M} UTC, before the training "
            f"began at {started.astimezone(UTC):%Y-%m-%d %H:%M} UTC: it is not what this training made.",
            hint="Did the training save elsewhere? Set OUTPUT_DIR, or AGENT_ALLOW_STALE=true to publish it "
            "all the same.",
        )
