"""How one job stands, by what its folder says: who is at work, what was done, what is left to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agent.journal import seal
from agent.pod.marker import TRAINED
from agent.status.aftermath import error_of, next_command, result_of
from agent.status.evidence import Entry, Evidence, gather

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config

_TOLD_OF_A_BEAT = (
    "step", "since", "pid", "what", "done_bytes", "total_bytes", "sent_bytes", "rate_bytes_s", "retries",
    "time",
)  # fmt: skip


@dataclass
class Standing:
    """One job on this volume.

    `now` is what happens at this moment. `steps` are the events of the last run, those of its training too.
    `to_tell` is what the row is still to be told, `untold_events` how many events the job database was not.
    `last_error` and `result` are what the last run ended with. `next` is the command to run, if anything is
    left to do. `remarks` name what cannot be read.
    """

    job: str
    folder: str
    at_work: bool = False
    now: Entry | None = None
    steps: list[Entry] = field(default_factory=list)
    commits: list[Entry] = field(default_factory=list)
    to_tell: Entry | None = None
    untold_events: int = 0
    last_error: Entry | None = None
    result: str | None = None
    row: Entry | None = None
    run: Entry | None = None
    next: str | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether anything was ever done for it, or begun."""
        return self.at_work or bool(self.steps or self.run or self.row or self.remarks or self.next)


def standing(folder: Path, config: Config, *, locks: bool = True) -> Standing:
    """How the job stands that has this folder; never fails, whatever is in there.

    Args:
        folder: the job's, in the state folder.
        config: what a command that is run here would do.
        locks: whether the kernel's locks may be tried; who wants one at that very moment has to ask twice.
    """
    job = Standing(folder.name, str(folder))
    found = gather(folder, job.remarks, locks=locks)
    job.at_work, job.now = found.at_work, _now(found) if found.at_work else None
    job.steps = sorted([*found.trained, *found.last], key=lambda entry: str(entry.get("time")))
    job.commits = [_commit(entry) for entry in found.trail if entry["event"] == "committed"]
    job.to_tell, job.untold_events = _letter(folder, found, job.remarks), _untold(found)
    job.row, job.run = found.row, asdict(found.run) if found.run else None
    if not job.at_work:
        job.last_error, job.result = error_of(found), result_of(found)
        job.next = next_command(found, job.job, config, waits=job.to_tell is not None)
    return job


def _now(found: Evidence) -> Entry:
    if found.beats:
        return {name: found.beat.get(name) for name in _TOLD_OF_A_BEAT} | {"left_s": _left_s(found.beat)}
    known: Entry = dict.fromkeys((*_TOLD_OF_A_BEAT, "left_s"))
    if found.finalizes or found.run is None:
        return known  # whoever holds the lock says nothing of itself
    if found.run.phase == TRAINED:
        return known | {"step": "waiting to try again", "since": found.beat.get("ended")}
    return known | {"step": found.run.phase, "since": found.run.begun}


def _letter(folder: Path, found: Evidence, remarks: list[str]) -> dict[str, Any] | None:
    outbox = found.journal.get("outbox")
    if outbox is None:
        return None
    letter = outbox.get("letter") if isinstance(outbox, dict) else None
    if not isinstance(letter, dict) or outbox.get("seal") != seal(letter):
        remarks.append(f"{folder / 'journal.json'}: what the row was to be told is damaged")
        return None
    return letter


def _untold(found: Evidence) -> int:
    """How many events a job database still waits for; a row that is a file here waits for none."""
    told = found.journal.get("told_events")
    if not isinstance(told, int):
        return 0 if found.row else len(found.trail)
    return max(0, len(found.trail) - told)


def _commit(entry: Entry) -> Entry:
    return {name: entry.get(name) for name in ("time", "repo_id", "commit")}


def _left_s(beat: Entry) -> int | None:
    done, total, rate = (beat.get(name) for name in ("done_bytes", "total_bytes", "rate_bytes_s"))
    if not (isinstance(done, int) and isinstance(total, int) and isinstance(rate, int) and rate > 0):
        return None
    return max(0, (total - done) // rate)
