"""Files on disk, opened so that nothing that lies in a folder can hold us up."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedReader
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


def open_regular(source: Path) -> BufferedReader:
    """Open a regular file for reading; a FIFO that took its place since does not block.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    stream = os.fdopen(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(errno.EINVAL, "not a regular file", str(source))
