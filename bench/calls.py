"""Calls to the Hub's API, counted where they arrive."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.sandbox.hub import Hub
from bench import folders, sides
from bench.hub import TOKEN, USER
from bench.measure import Row, in_turns, row
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.settings import Settings
    from bench.sides import Publish

MANY_FILES = 250
_OTHER_FILES = 3  # of a sharded model, beside its shards
_MOST_CALLS = 14


def calls(settings: Settings) -> Iterator[Row]:
    """Calls that one publish makes, storage aside: new, small, in place of another model, and again."""
    with folders.sharded_model(settings.tmp, MANY_FILES - _OTHER_FILES, size_mb=2) as many:
        pairs = in_turns(
            settings.runs,
            partial(_count_all, sides.finalize, many, settings.tmp),
            partial(_count_all, sides.hf_upload, many, settings.tmp),
        )
    names = (sides.FINALIZE, sides.HF_UPLOAD)
    for what in pairs[0][0]:
        counted = [(ours[what], theirs[what]) for ours, theirs in pairs]
        yield row("calls", what, "calls", names, counted, target=Target(most=_MOST_CALLS))


def _count_all(publish: Publish, many: Path, tmp: Path) -> dict[str, int]:
    """One side's calls by scenario, on a Hub of its own."""
    with tempfile.TemporaryDirectory(dir=tmp) as folder, Hub(root=Path(folder) / "hub") as hub:
        hub.add_user(USER, token=TOKEN)
        home = sides.fresh_home(Path(folder))
        small, large = f"{USER}/small", f"{USER}/large"
        scenarios = {
            f"first publish of {MANY_FILES} files": (many, large),
            "first publish of a fixture": (folders.FIXTURE, small),
            "another model in its place": (folders.OTHER_FIXTURE, small),
            "the same again": (folders.OTHER_FIXTURE, small),
        }
        found = {}
        for what, (source, repo_id) in scenarios.items():
            before = len(hub.requests)
            publish(home, hub.endpoint, source, repo_id=repo_id)
            found[what] = sum(request.kind != "cas" for request in hub.requests[before:])
        return found
