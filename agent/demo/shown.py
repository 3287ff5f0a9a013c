"""What the demo found out by itself about what finalize claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Shown:
    """What the demo found out, by itself, about what finalize claims."""

    outcome: dict[str, Any]
    exit_code: int
    files: list[dict[str, Any]] = field(default_factory=list)
    card: str = ""
    row_before: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    second: dict[str, Any] = field(default_factory=dict)
    commits: int = 0

    @property
    def untrue(self) -> list[str]:
        """Every claim that did not hold; empty means that all of it is true."""
        claims = {
            "finalize ended with exit 0": self.exit_code == 0,
            "it says completed": self.outcome.get("result") == "completed",
            "every file downloads as it was read": bool(self.files) and all(f["equal"] for f in self.files),
            "the row says completed, 100, with the address": (
                (self.row.get("status"), self.row.get("progress")) == ("completed", 100.0)
                and self.row.get("model_url") == self.outcome.get("model_url")
            ),
            "the row opens with its own token and with nothing else": list(self.opened.values()) == [1, 0, 0],
            "a second run commits nothing and sends nothing": (
                self.commits == 1 and self.second.get("uploaded_bytes") == 0
            ),
        }
        return [claim for claim, holds in claims.items() if not holds]
