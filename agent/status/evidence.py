"""What the files in a job's folder say, each read once: the ground that `status` stands on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent import glance, journal, pulse
from agent.pod.marker import is_running, process_mark
from agent.status.run_state import RunState, run_of

if TYPE_CHECKING:
    from pathlib import Path

Entry = dict[str, Any]
_FRESH_S = 3 * pulse.STILL_S


@dataclass(frozen=True)
class Evidence:
    """What was found of one job; what is missing or damaged is empty.

    `trail` holds all events of finalize and rollback, `last` those of the last run, which begins with
    `begun`; `trained` those of the last training under `run`. `beat` is what that run's finalize writes of
    itself, `beats` whether it is still at it. `finalizes` is also true if somebody holds the job's lock.
    """

    trail: list[Entry]
    last: list[Entry]
    begun: Entry | None
    trained: list[Entry]
    journal: Entry
    row: Entry | None
    run: RunState | None
    beat: Entry
    beats: bool
    finalizes: bool

    @property
    def at_work(self) -> bool:
        """Whether somebody is at work on the job at this moment."""
        return self.finalizes or bool(self.run and self.run.at_work)


def gather(folder: Path, remarks: list[str], *, locks: bool) -> Evidence:
    """Read what there is; never fails.

    Args:
        folder: the job's.
        remarks: gains what cannot be read.
        locks: whether the kernel's locks may be tried.
    """
    trail = _events(folder / journal.TRAIL, remarks)
    trained = _events(folder / journal.TRAINING / journal.TRAIL, remarks)
    run_events = _since(trail, "started")
    last, begun = (run_events, run_events[0]) if run_events else (trail, None)
    beat = _versioned(folder / pulse.FILE, pulse.VERSION, remarks)
    beats = _is_alive(beat)
    if begun and begun.get("pid") != beat.get("pid"):
        if beats:
            last, begun = [], None  # it began this moment and has noted nothing yet
        else:
            beat = {}  # of an earlier run; the last one could write none
    return Evidence(
        trail=trail,
        last=last,
        begun=begun,
        trained=_since(trained, "training_started"),
        journal=_versioned(folder / "journal.json", journal.VERSION, remarks),
        row=glance.document(folder / "row.json", remarks),
        run=run_of(folder, remarks, locks=locks),
        beat=beat,
        beats=beats,
        finalizes=beats or (locks and glance.is_held(folder / "lock")),
    )


def _events(trail: Path, remarks: list[str]) -> list[Entry]:
    return [entry for entry in glance.trail(trail, remarks) if isinstance(entry.get("event"), str)]


def _since(trail: list[Entry], event: str) -> list[Entry]:
    """The events from the last such one on; none if there is none."""
    begun = next((index for index in reversed(range(len(trail))) if trail[index]["event"] == event), None)
    return [] if begun is None else trail[begun:]


def _versioned(path: Path, version: int, remarks: list[str]) -> Entry:
    found = glance.document(path, remarks)
    if found and found.get("version") != version:
        remarks.append(f"{path} is of another version of the agent")
        return {}
    return found or {}


def _is_alive(beat: Entry) -> bool:
    """Whether the process still runs: the kernel says so or, of another machine, a beat of just now."""
    if not beat or beat.get("ended"):
        return False
    process = str(beat.get("process"))
    if is_running(process):
        return True
    is_from_here = process.partition(":")[0] == process_mark(os.getpid()).partition(":")[0]
    return not is_from_here and _is_fresh(str(beat.get("time")))


def _is_fresh(moment: str) -> bool:
    try:
        age_s = datetime.now(UTC).timestamp() - datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError, OSError):
        return False
    return abs(age_s) < _FRESH_S
