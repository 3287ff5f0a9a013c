"""What a check found: one sentence about one file, and a cure."""

from __future__ import annotations

from dataclasses import dataclass

WHOLE_FOLDER = ""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, about what would be published.

    `path` is where the file would stand in the repo, or WHOLE_FOLDER. `kind` is a kebab-case word that
    programs match on (`damaged`, `secret`, `not-finite`, …). `message` goes on after the path: "is cut
    short: …". A finding that `refuses` ends the publication, the others are told and published.
    """

    path: str
    kind: str
    message: str
    hint: str
    refuses: bool = True

    @property
    def sentence(self) -> str:
        """The path and what is wrong with it."""
        return f"{self.path} {self.message}".strip()
