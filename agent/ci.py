"""GitHub Actions as one of those who are told: outputs, a summary, annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.outcome import Outcome


def tell(environ: Mapping[str, str], outcome: Outcome, exit_code: int) -> None:
    """Tell the workflow that this is a step of, if it is one."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return
    raise NotImplementedError(outcome, exit_code)
