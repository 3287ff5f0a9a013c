"""Files on disk, opened so that nothing that lies in a folder can hold us up."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agent.hashes import Stamp

_AHEAD = 64  # files that are open at a time


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


def why_no_folder(path: Path) -> str | None:
    """Why nothing can be listed there, as it goes on after the path; None if it is a folder."""
    try:
        return None if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
    except OSError as error:
        return f"cannot be entered: {error.strerror}"


def open_regular(source: Path) -> io.BufferedReader:
    """Open a regular file for reading; a FIFO that took its place since does not block.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    return io.BufferedReader(io.FileIO(_open(source)))  # os.fdopen would ask whether it is a terminal


def small_contents(files: Iterable[LocalFile], most_bytes: int) -> Iterator[tuple[LocalFile, bytes | None]]:
    """Each file with its content; None if it is longer than `most_bytes`, or not as when stock was taken.

    The files behind it are opened meanwhile, so that a slow disk is asked for many at a time.

    Raises:
        OSError: a file cannot be read, or is no regular file.
    """
    ahead: deque[tuple[LocalFile, int | None]] = deque()
    try:
        for file in files:
            ahead.append((file, _ask_for(file) if file.size_bytes <= most_bytes else None))
            if len(ahead) > _AHEAD:
                yield _content(*ahead.popleft())
        while ahead:
            yield _content(*ahead.popleft())
    finally:
        for _, handle in ahead:
            if handle is not None:
                os.close(handle)


def _ask_for(file: LocalFile) -> int:
    handle = _open(file.source)
    with suppress(AttributeError, OSError):  # an advice only: macOS takes none, nor does every file system
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
    return handle


def _content(file: LocalFile, handle: int | None) -> tuple[LocalFile, bytes | None]:
    if handle is None:
        return file, None
    try:
        content = os.read(handle, file.size_bytes + 1)
    finally:
        os.close(handle)
    return file, content if len(content) == file.size_bytes else None


def _open(source: Path) -> int:
    handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
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
