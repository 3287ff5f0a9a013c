"""Patterns of file names, in the language of .gitignore."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True)
class Patterns:
    """Patterns separated by commas or line ends; a later one beats an earlier one, `!` takes back.

    Raises:
        ValueError: saying which pattern is none.
    """

    text: str = ""

    def __post_init__(self) -> None:
        self.match("any file")  # a pattern that is none must be told now

    def __bool__(self) -> bool:
        return bool(self._lines)

    def match(self, path: str) -> bool:
        """Whether a path with `/`, relative to the folder, is meant."""
        return bool(self._lines) and self._spec.match_file(path)

    @cached_property
    def _lines(self) -> list[str]:
        return [line.strip() for line in re.split(r"[,\n]", self.text) if line.strip()]

    @cached_property
    def _spec(self) -> GitIgnoreSpec:
        from pathspec import GitIgnoreSpec

        return GitIgnoreSpec.from_lines(self._lines)
