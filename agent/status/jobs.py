"""`status`: what this volume knows of a job, or of all. Asks nobody, changes nothing, stops at no damage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.errors import Interrupted
from agent.journal import TRAIL
from agent.pulse import FILE as PULSE
from agent.status.standing import Standing, standing

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config

_OF_A_JOB = ("journal.json", TRAIL, "row.json", "training.log", PULSE)


@dataclass
class Status:
    """What is known of the jobs on this volume; `remarks` name what cannot be read.

    `stopped` says that nobody wants to see the end any more.
    """

    where: str | None = None
    job: str | None = None
    jobs: list[Standing] = field(default_factory=list)
    bug_report: dict[str, str] | None = None
    remarks: list[str] = field(default_factory=list)
    stopped: bool = False
    error: dict[str, str] | None = None

    def failed(self, error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why there is nothing to show; whoever stops to look needs no reason."""
        self.stopped = isinstance(error, Interrupted)
        if not self.stopped:
            self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: where, every job, and what else lies there."""
        return {
            "where": self.where,
            "jobs": [asdict(job) for job in self.jobs],
            "bug_report": self.bug_report,
            "remarks": self.remarks,
            "error": self.error,
        }


def look(config: Config, answer: Status, *, locks: bool = True) -> None:
    """Fill in how every job stands at this moment; JOB_ID leaves one.

    Args:
        config: where to look, and for what.
        answer: what is known.
        locks: whether the kernel's locks may be tried, see `standing`.
    """
    answer.where, answer.remarks = str(config.state_dir), []
    answer.job = str(config.job_id) if config.job_id else None
    folders = [config.state_dir / answer.job] if answer.job else _folders(config.state_dir, answer.remarks)
    found = [standing(folder, config, locks=locks) for folder in folders]
    answer.jobs = [job for job in found if job.is_known]
    answer.bug_report = _bug_report(config.state_dir / "bug-report.txt")


def _folders(state_dir: Path, remarks: list[str]) -> list[Path]:
    """The folders of jobs; what else lies beside them is nobody's job."""
    found = []
    try:
        for path in sorted(state_dir.iterdir()):
            try:
                ours = any(path.joinpath(name).exists() for name in _OF_A_JOB)
            except OSError as error:
                remarks.append(f"{path} cannot be read: {error.strerror}")
                continue
            if ours:
                found.append(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        remarks.append(f"{state_dir} cannot be read: {error.strerror}")
    return found


def _bug_report(path: Path) -> dict[str, str] | None:
    try:
        written = path.stat().st_mtime
        return {"path": str(path), "time": datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")}
    except (OSError, ValueError, OverflowError):
        return None
