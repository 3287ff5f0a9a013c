"""Files on disk, opened so that nothing that lies in a folder can hold us up."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.parse import parse_json

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


def read_json(source: Path, most_bytes: int) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse a document of somebody's; one that is too large to be one is not read.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is no JSON; the message goes on after the file's path.
    """
    with open_regular(source) as stream:
        text = stream.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise ValueError(f"has more than {most_bytes:,} bytes, too many to be meant")
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"is damaged: {error}") from error
