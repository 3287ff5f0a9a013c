"""A volume on which a job has a long history."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.child import clean_env
from bench.sides import fresh_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENTS = 10_000
_JOB = "3f2b8c1e-5d4a-4b6f-9a7c-0d1e2f3a4b5c"
_ENTRY = {"event": "verified", "repo_id": "ada/model", "commit": "c5e0116f92fd" + 28 * "0", "files": 10}


@contextmanager
def volume_with_a_history(tmp: Path) -> Iterator[tuple[Path, dict[str, str], Path]]:
    """A home with 10,000 events of a job, the environment that names it, and the file of the events."""
    home = fresh_home(tmp)
    trail = home / "state" / _JOB / "audit.jsonl"
    trail.parent.mkdir(parents=True)
    with trail.open("w") as stream:
        for number in range(EVENTS):
            at = f"2026-11-24T02:{number // 60 % 60:02d}:{number % 60:02d}.000+00:00"
            event = {"time": at} | _ENTRY | {"key": f"verified:{number}", "pid": 7}
            stream.write(json.dumps(event) + "\n")
    yield home, clean_env(home, AGENT_STATE_DIR=str(home / "state"), JOB_ID=_JOB), trail
    shutil.rmtree(home)
