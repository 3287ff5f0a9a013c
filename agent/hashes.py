"""Durable hints: small JSON documents that save work and are never trusted for truth.

Written as a temporary file in the same folder, flushed to disk, renamed, and the folder flushed:
after a crash a reader finds the old document or the new one. Losing one costs time only.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.log import get_logger
from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

RACY_NS = 2_000_000_000  # a file younger than this when it was hashed may change without its stamp changing


def write_durably(path: Path, document: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Replace the JSON document at `path` in one step that survives a crash.

    Raises:
        OSError: the folder cannot be written; the old document is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1, allow_nan=False)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object at `path`, or an empty one when it is missing or damaged."""
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


@dataclass(frozen=True)
class Stamp:
    """What the file system says about one state of a file; any write changes it."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Take the stamp of `path` as it is now, following links."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


class HashMemory:
    """Remembers hashes of files by their stamp, so that an unchanged file is not read again.

    Git's racy rule: a hash is only kept when the file's mtime and ctime were at least two seconds
    old at the moment the reading began.
    """

    def __init__(self, path: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._path, self._now_ns = path, now_ns
        self._entries = read_document(path)
        self._begun_ns = now_ns()
        self._dirty = False

    def recall(self, source: Path, kind: str) -> str | None:
        """Return the remembered hash if the file still carries the stamp it was read under."""
        entry = self._entries.get(str(source))
        if not isinstance(entry, dict) or entry.get("stamp") != list(astuple(Stamp.of(source))):
            return None
        found = entry.get(kind)
        return found if isinstance(found, str) else None

    def keep(self, source: Path, kind: str, value: str, stamp: Stamp) -> None:
        """Remember a hash of bytes that were read after this memory was opened.

        Args:
            source: the file.
            kind: which hash.
            value: the hash, in hex.
            stamp: taken before the reading began; a file that was written since is not remembered.
        """
        if max(stamp.mtime_ns, stamp.ctime_ns) > self._begun_ns - RACY_NS or Stamp.of(source) != stamp:
            return
        entry = self._entries.get(str(source))
        if not isinstance(entry, dict) or entry.get("stamp") != list(astuple(stamp)):
            entry = {"stamp": list(astuple(stamp))}
        self._entries[str(source)] = entry | {kind: value}
        self._dirty = True

    def save(self) -> None:
        """Write the memory down; when that fails, the next run reads the files again."""
        if not self._dirty:
            return
        try:
            write_durably(self._path, self._entries)
            self._dirty = False
        except OSError as error:
            get_logger().warning("hashes not remembered", path=str(self._path), because=str(error))
