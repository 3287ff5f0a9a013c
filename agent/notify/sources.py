"""Where somebody who was told finds more: the row, the workflow's log, the pod, the files on its volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from agent.durable import read_trail
from agent.journal import TRAIL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config
    from agent.outcome import Outcome

_CONSOLE = "https://console.runpod.io/pods?id="


@dataclass(frozen=True)
class Source:
    """A page, or a path on the pod's disk."""

    what: str
    value: str
    is_address: bool


def row_of(config: Config, status: str | None) -> str:
    """The job's row in a phrase: what it says, and where it is."""
    said = f"{status} in" if status else "not known to be told:"
    if config.job_database:
        return f"{said} {config.jobs_table} of {config.job_database.url.partition('://')[2]}"
    return f"{said} a local file, {config.state_dir}"


def sources(config: Config, folder: Path) -> Iterator[Source]:
    """Where more is told of this job, the nearest first."""
    if config.run_url:
        yield Source("Log", config.run_url, is_address=True)
    if config.pod_id:
        yield Source("Pod", f"{_CONSOLE}{quote(config.pod_id, safe='')}", is_address=True)
    log = folder / "training.log"
    yield Source("On its disk", str(log if log.is_file() else folder), is_address=False)


def recall(outcome: Outcome, folder: Path) -> Outcome:
    """The outcome with what an earlier run published, where this one only knows that it did."""
    if not outcome.published or outcome.model_url:
        return outcome
    last = {entry.get("event"): entry for entry in read_trail(folder / TRAIL)}
    proof, told = last.get("verified", {}), last.get("recorded", {})
    return replace(
        outcome, commit=proof.get("commit"), repo_id=proof.get("repo_id"), model_url=told.get("model_url")
    )
