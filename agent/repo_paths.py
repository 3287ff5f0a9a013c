"""Paths inside a repo: which of them the Hub takes, and the variables that name some."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LONGEST_PATH_BYTES = 1024  # no limit is documented; git clients of Windows end at 260 already
LONGEST_NAME_BYTES = 255  # what the file systems of those who download can hold
_FORBIDDEN = {"", ".", ".."}
_HUB_FOLDERS = {".git", ".cache"}  # huggingface_hub refuses to commit below them


@dataclass(frozen=True)
class Placement:
    """One entry of AGENT_FILES: a file or folder on disk, and where it will stand in the repo."""

    source: Path
    dest: str


def why_not(path: str) -> str | None:
    """Why the Hub, or somebody who downloads it, could not take a file of this path; None if they can."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    parts = path.split("/")
    if _FORBIDDEN & set(parts) or _HUB_FOLDERS & set(parts):
        return "a path that the Hub refuses"
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\\]", path):
        return "its name holds a control character or a backslash, which the Hub refuses"
    if len(encoded) > LONGEST_PATH_BYTES or any(len(part.encode()) > LONGEST_NAME_BYTES for part in parts):
        return f"its path is longer than {LONGEST_PATH_BYTES} bytes"
    return None


def parse_placements(text: str) -> tuple[Placement, ...]:
    """Read `source:dest,…`; a dest that ends with `/` keeps the source's name.

    Raises:
        ValueError: saying which entry is none.
    """
    found = []
    for entry in _entries(text):
        source, colon, dest = entry.rpartition(":")
        if not colon or not source or not dest:
            raise ValueError(f"{entry!r} is not source:dest")
        target = dest + Path(source).name if dest.endswith("/") else dest
        found.append(Placement(Path(source), _in_repo(target.removeprefix("./"))))
    return tuple(found)


def parse_paths(text: str) -> tuple[str, ...]:
    """Read a list of repo paths.

    Raises:
        ValueError: saying which one is none.
    """
    return tuple(_in_repo(entry) for entry in _entries(text))


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]


def _in_repo(path: str) -> str:
    reason = why_not(path)
    if reason:
        raise ValueError(f"{path!r} is no path in a repo: {reason}")
    return path
