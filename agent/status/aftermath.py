"""How the last run of a job ended, as far as this volume knows, and which command is left to run."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agent.errors import TrainingFailedError
from agent.jobs import CANCELLED, COMPLETED, TRAINING
from agent.pod.marker import TRAINED

if TYPE_CHECKING:
    from agent.config import Config
    from agent.status.evidence import Evidence

_KILLED = "It was killed (by the pod's end, or for its memory), or crashed; run finalize again."


def result_of(found: Evidence) -> str | None:
    """The result that the last run ended with; None if it did not end, or nobody knows."""
    if isinstance(told := found.beat.get("result"), str):
        return told
    if found.run and found.run.result:
        return found.run.result
    recorded = [entry.get("status") for entry in found.last if entry["event"] == "recorded"]
    return str(recorded[-1]) if recorded else None


def error_of(found: Evidence) -> dict[str, Any] | None:
    """What the last run died of: time, code, message and hint; a process that is gone was killed."""
    beat, run = found.beat, found.run
    error = beat.get("error")
    if isinstance(error, dict):
        return _error(beat.get("ended"), error.get("code"), error.get("message"), error.get("hint"))
    if beat and not beat.get("ended"):
        step = beat.get("step") or "artifact"
        said = f"process {beat.get('pid')} ended without a word in step {step}"
        return _error(beat.get("time"), "vanished", said, _KILLED)
    if run and run.exit_code == TrainingFailedError.exit_code:
        because = (found.row or {}).get("error_message") or f"it ended with exit code {run.child_exit}"
        return _error(run.ended, TrainingFailedError.code, because)
    ends = [entry for entry in found.last if entry["event"] in {"failed", "interrupted", "recorded"}]
    ends = [entry for entry in ends if entry["event"] != "recorded" or entry.get("status") == COMPLETED]
    if not ends or ends[-1]["event"] == "recorded":
        return None
    end = ends[-1]
    return _error(end.get("time"), end.get("code", end["event"]), end.get("because"))


def next_command(found: Evidence, job: str, config: Config, *, waits: bool) -> str | None:
    """The command that does what is left; None if nothing is.

    Args:
        found: what is known of the job; nobody is at work on it.
        job: its name.
        config: what a command that is run here would do.
        waits: whether its row waits to be told something.
    """
    begun_rollback = found.journal.get("rollback")
    if isinstance(begun_rollback, dict):
        repo, branch, to = (str(begun_rollback.get(name)) for name in ("repo", "branch", "asked"))
        return shlex.join(["training-agent", "rollback", repo, "--revision", branch, "--to", to])
    if found.run and found.run.lost_its_training:
        return "training-agent run -- <the same training>"  # nothing that a shell would run by mistake
    if _is_final(found):
        return None
    trained = found.run is not None and found.run.phase == TRAINED
    unfinished = found.begun is not None and result_of(found) is None
    return _finalize(found, job, config) if waits or error_of(found) or trained or unfinished else None


def _error(time: object, code: object, message: object, hint: object = None) -> dict[str, Any]:
    return {"time": time, "code": code, "message": message, "hint": hint}


def _is_final(found: Evidence) -> bool:
    """Whether no finalize would change how it ended."""
    row = found.row or {}
    training_failed = bool(found.run and found.run.exit_code == TrainingFailedError.exit_code)
    return training_failed or row.get("status") == CANCELLED or row.get("failure_stage") == TRAINING


def _finalize(found: Evidence, job: str, config: Config) -> str:
    command = ["training-agent", "finalize"]
    if config.job_id is None and _is_uuid(job):
        command += ["--job-id", job]
    output_dir = (found.begun or {}).get("output_dir")
    if isinstance(output_dir, str) and output_dir != str(config.output_dir):
        command += ["--output-dir", output_dir]
    return shlex.join(command)


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
