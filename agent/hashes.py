"""Remembered hashes: an unchanged file is not read again. Losing them costs time only.

Each entry is sealed: a hash that was bent on the disk would be believed by whoever asks, and sent to the Hub.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from agent.durable import read_document, write_durably
from agent.log import get_logger

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

HASHES = "hashes.json"  # below AGENT_STATE_DIR
_SEAL = "seal"
_MOST_FILES = 5000  # the oldest are forgotten first: every checkpoint has a path of its own
RACY_NS = 2_000_000_000  # a file younger than this when it was hashed may change without its stamp changing


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
        return cls.from_stat(path.stat())

    @classmethod
    def from_stat(cls, found: os.stat_result) -> Stamp:
        """Make a stamp of what the file system said."""
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
        found = self._known(source, Stamp.of(source)).get(kind)
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
        entry = {**self._known(source, stamp), "stamp": list(astuple(stamp)), kind: value}
        self._entries.pop(str(source), None)  # the newest last
        self._entries[str(source)] = entry | {_SEAL: _seal(entry)}
        self._dirty = True

    def _known(self, source: Path, stamp: Stamp) -> dict[str, object]:
        """What was kept of the file in this state; nothing if the disk has bent it."""
        entry = self._entries.get(str(source))
        if not isinstance(entry, dict) or entry.get("stamp") != list(astuple(stamp)):
            return {}
        kept = {name: value for name, value in entry.items() if name != _SEAL}
        return kept if _seal(kept) == entry.get(_SEAL) else {}

    def forget(self) -> None:
        """Remember nothing any more."""
        self._entries = {}
        self._dirty = True

    def save(self) -> None:
        """Write the memory down; when that fails, the next run reads the files again."""
        if not self._dirty:
            return
        try:
            write_durably(self._path, dict(list(self._entries.items())[-_MOST_FILES:]))
            self._dirty = False
        except OSError as error:
            get_logger().warning("hashes not remembered", path=str(self._path), because=str(error))


def _seal(entry: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]
