"""What was measured, as one JSON document that the next run of some groups brings up to date."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.child import REPO_ROOT
from bench.measure import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = REPO_ROOT / "bench" / "results"
PATH = (FOLDER / "speed.json").relative_to(REPO_ROOT)


@dataclass(frozen=True)
class Group:
    """The rows of one group, what was asked for, what they ran on and how long they took."""

    name: str
    asked: Mapping[str, float]
    ran_on: Mapping[str, Any]
    took_s: float
    rows: list[Row]

    def as_json(self) -> dict[str, Any]:
        """All of it, with every value."""
        return {
            "asked": dict(self.asked),
            "ran_on": dict(self.ran_on),
            "took_s": round(self.took_s),
            "rows": [row.as_json() for row in self.rows],
        }


def save(path: Path, group: Group) -> None:
    """Write a group in place of what the document held of it."""
    document = json.loads(path.read_text("utf-8")) if path.exists() else {"groups": {}}
    document["groups"][group.name] = group.as_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def load(path: Path = REPO_ROOT / PATH) -> list[Group]:
    """The groups that a document holds; none without one."""
    if not path.exists():
        return []
    told = json.loads(path.read_text("utf-8"))["groups"]
    return [
        Group(
            name,
            one["asked"],
            one["ran_on"],
            one["took_s"],
            [Row.from_json(name, row) for row in one["rows"]],
        )
        for name, one in told.items()
    ]
