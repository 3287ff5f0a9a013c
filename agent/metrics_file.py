"""The figures of one run as OpenMetrics text, for a node exporter's textfile collector."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from agent.outcome import Outcome


def write(path: Path, outcome: Outcome, exit_code: int) -> None:
    """Write the metrics, whole or not at all."""
    raise NotImplementedError(path, outcome, exit_code)
