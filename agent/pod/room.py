"""Whether a folder can be written and has room, tried out without leaving anything behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def existing(path: Path) -> Path:
    """The path itself, or its nearest parent that is there."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def why_not_writable(path: Path) -> str | None:
    """Why nothing can be written to a folder that may not be there yet; None if it can.

    A file without a name is written and synced: a full quota or a read-only mount shows only then.
    """
    place = path
    try:
        place = existing(path)
        if not place.is_dir():
            return f"{place} is not a folder"
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{place}: {error.strerror or error}"
    return None


def free_bytes(path: Path) -> int:
    """The room left for us where the path is, or will be."""
    return shutil.disk_usage(existing(path)).free
