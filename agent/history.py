"""`history`: what was done for a job, from the job database or from this volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import glance
from agent.errors import AgentError
from agent.journal import TRAIL, TRAINING
from agent.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config
    from agent.retry import Patience


@dataclass
class History:
    """The events of a job, oldest first; without JOB_ID those of every job on this volume.

    `source` is database or disk. Only the database knows what others did to the row.
    """

    last: int
    local: bool
    source: str = "disk"
    where: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None

    def failed(self, _error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why there is nothing to show."""
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: where the events are from, and all of them."""
        return {"source": self.source, "where": self.where, "events": self.events, "error": self.error}


def recall(config: Config, history: History, patience: Patience | None = None) -> None:
    """Fill in the events; a database that cannot be asked is no reason to show nothing.

    Args:
        config: which job, and where it may be known.
        history: how many events; they are filled in.
        patience: how long a database is asked; by default as the configuration says.
    """
    found = None if history.local else _from_database(config, history.last, patience)
    if found is not None and config.job_database:
        history.source, history.where = "database", config.job_database.url
    else:
        folders = [config.state_dir / str(config.job_id)] if config.job_id else _jobs(config.state_dir)
        history.where, found = str(config.state_dir), _on_disk(folders, history.last)
    history.events = sorted(found, key=lambda event: str(event.get("time")))[-history.last :]


def _from_database(config: Config, last: int, patience: Patience | None) -> list[dict[str, Any]] | None:
    database, job_id = config.job_database, config.job_id
    if database is None or job_id is None:
        return None
    from agent.jobs.supabase import SupabaseStore
    from agent.retry import Patience

    store = SupabaseStore(database, str(job_id), patience or Patience(config.stall_s, config.deadline_s))
    try:
        found = store.trail(last)
    except AgentError as error:
        get_logger().warning("showing what this volume knows", because=error.message, hint=error.hint)
        return None
    finally:
        store.close()
    if found is None:
        get_logger().warning("the job database keeps no audit trail; showing what this volume knows")
    return found


def _jobs(state_dir: Path) -> list[Path]:
    return sorted({trail.parent for trail in state_dir.glob(f"*/{TRAIL}")})


def _on_disk(folders: list[Path], last: int) -> list[dict[str, Any]]:
    """The last events of each of these jobs, those of their trainings too: `run` keeps them apart."""
    trails = [
        (folder.name, trail) for folder in folders for trail in (folder / TRAIL, folder / TRAINING / TRAIL)
    ]
    return [{"job": job} | event for job, trail in trails for event in glance.newest(trail, last)]
