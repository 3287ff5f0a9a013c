"""Files on disk, opened so that nothing that lies in a folder can hold us up."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from agent.hashes import Stamp


@dataclass(frozen=True)
class LocalFile:
    """One file to publish: where it will stand in the repo, where it is on disk, and its stamp."""

    path: str
    source: Path
    stamp: Stamp

    @property
    def size_bytes(self) -> int:
        """Size when stock was taken."""
        return self.stamp.size_bytes


def open_regular(source: Path) -> io.BufferedReader:
    """Open a regular file for reading; a FIFO that took its place since does not block.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return io.BufferedReader(io.FileIO(handle))  # os.fdopen would ask whether it is a terminal
    os.close(handle)
    raise OSError(errno.EINVAL, "not a regular file", str(source))
