"""What a repo, or the disk of somebody who downloads it, cannot hold."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from agent.artifact import names
from agent.artifact.findings import WHOLE_FOLDER, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.artifact.files import LocalFile

MOST_FILES = 25_000  # in one commit of the Hub
LARGEST_FILE_BYTES = 500_000_000_000
_NAMED = 3


def check_limits(files: Sequence[LocalFile]) -> Iterator[Finding]:
    """Find too many files, files that are too large, and names that differ in case only."""
    if len(files) > MOST_FILES:
        yield Finding(
            WHOLE_FOLDER,
            "too-many-files",
            f"{len(files):,} files are more than the {MOST_FILES:,} that one commit can hold",
            "Pack what belongs together, or leave folders out with AGENT_EXCLUDE.",
        )
    for file in files:
        if file.size_bytes > LARGEST_FILE_BYTES:
            yield Finding(
                file.path,
                "too-large",
                f"has {file.size_bytes:,} bytes; the Hub takes files up to {LARGEST_FILE_BYTES:,}",
                "Save the model in shards (max_shard_size).",
            )
    yield from _collisions([file.path for file in files])


def _collisions(paths: Sequence[str]) -> Iterator[Finding]:
    """Paths that are one file on a disk that does not tell upper from lower case."""
    seen: dict[str, str] = {}
    others = 0
    for path in paths:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other is path:
            continue
        others += 1
        if others <= _NAMED:
            yield Finding(
                path,
                "case-collision",
                f"and {other} are one file on Windows and macOS: one of them would be lost in a download",
                "Rename one of them, or leave it out with AGENT_EXCLUDE.",
                refuses=names.is_loaded(path) or names.is_loaded(other),
            )
