"""How far `run` came with a job, by the marker it keeps on the volume; somebody else may be writing it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent import glance
from agent.pod import marker

if TYPE_CHECKING:
    from pathlib import Path

_LOG = "training.log"
_LOST = (marker.TRAINING, marker.STOPPED)


@dataclass(frozen=True)
class RunState:
    """One job under `run`, in the pod that began it last; moments are ISO 8601 in UTC.

    `phase` is the marker's. `at_work` is None if nobody asked.
    """

    pod: str
    phase: str
    begun: str | None
    ended: str | None
    finished: str | None
    child_exit: int | None
    exit_code: int | None
    result: str | None
    at_work: bool | None
    log: str | None

    @property
    def is_over(self) -> bool:
        """Whether everything was done for this job in its pod."""
        return self.phase in marker.OVER

    @property
    def lost_its_training(self) -> bool:
        """Whether the training did not come to an end."""
        return self.phase in _LOST


def run_of(folder: Path, remarks: list[str], *, locks: bool) -> RunState | None:
    """The state of the run of the job that has this folder; None if no run began.

    Args:
        folder: the job's, in the state folder.
        remarks: gains what cannot be read.
        locks: whether the kernel's lock is asked who is at work; else only the training's process is.
    """
    marks = [
        (path, mark)
        for path in sorted(folder.parent.glob(f"pods/*/{folder.name}.json"))
        if (mark := glance.document(path, remarks)) and mark.get("version") == marker.VERSION
    ]
    if not marks:
        return None
    path, mark = max(marks, key=lambda one: _number(one[1], "begun_at"))
    phase, is_over = str(mark.get("phase")), mark.get("phase") in marker.OVER
    trains = phase == marker.TRAINING and marker.is_running(str(mark.get("process")))
    return RunState(
        pod=path.parent.name,
        phase=phase,
        begun=_moment(mark, "begun_at"),
        ended=_moment(mark, "ended_at"),
        finished=_moment(mark, "finished_at"),
        child_exit=_whole(mark, "child_exit"),
        exit_code=_whole(mark, "exit_code") if is_over else None,
        result=str(mark.get("result") or "") or None if is_over else None,
        at_work=trains or (glance.is_held(path.with_suffix(".lock")) if locks else None),
        log=next((str(log) for log in _logs(folder, path.parent.name) if log.is_file()), None),
    )


def _logs(folder: Path, pod: str) -> list[Path]:
    return [folder / _LOG, folder / f"node-{pod}" / _LOG]


def _number(mark: dict[str, Any], name: str) -> float:
    found = mark.get(name)
    return float(found) if isinstance(found, int | float) else 0.0


def _whole(mark: dict[str, Any], name: str) -> int | None:
    found = mark.get(name)
    return found if isinstance(found, int) else None


def _moment(mark: dict[str, Any], name: str) -> str | None:
    seconds = _number(mark, name)
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
    except (OverflowError, ValueError, OSError):
        return None
