"""Everything repositories point to, on disk: git blobs, LFS objects and xet files."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from agent.sandbox.hub.cas import Cas
from agent.sandbox.hub.refused import entry_not_found
from agent.sandbox.hub.repos import Entry, git_oid

_READ_BYTES = 2**20


class Content:
    """The storage under one folder; losing what no commit needs is `forget`."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._lfs = root / "lfs"
        self._spool = root / "spool"
        for folder in (self._blobs, self._lfs, self._spool):
            folder.mkdir(parents=True, exist_ok=True)
        self.cas = Cas(root / "xorbs")
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def spool(self) -> Path:
        """Name a file for bytes that are still arriving."""
        return self._spool / secrets.token_hex(8)

    def add_blob(self, data: bytes) -> Entry:
        """Store a regular file."""
        oid = git_oid("blob", data)
        (self._blobs / oid).write_bytes(data)
        return Entry(len(data), oid)

    def add_lfs(self, sha256: str, received: Path) -> None:
        """Take over an LFS object whose hash has been verified."""
        with self._lock:
            self._sizes[sha256] = received.stat().st_size
            received.replace(self._lfs / sha256)

    def add_large(self, data: bytes) -> Entry:
        """Store bytes as an LFS object."""
        sha256 = hashlib.sha256(data).hexdigest()
        received = self.spool()
        received.write_bytes(data)
        self.add_lfs(sha256, received)
        return Entry.large(sha256, len(data))

    def pretend(self, sha256: str, size: int) -> Entry:
        """Hold a large file in name only, for repos that are too big to be held; it cannot be read."""
        with self._lock:
            self._sizes[sha256] = size
        return Entry.large(sha256, size)

    def find_large(self, sha256: str) -> Entry | None:
        """Return the large file of that sha256, from xet storage or from LFS."""
        if file := self.cas.by_sha256(sha256):
            return Entry.large(sha256, file.size, file.hash)
        size = self._sizes.get(sha256)
        return None if size is None else Entry.large(sha256, size)

    def read(self, entry: Entry, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield bytes [start, stop) of a file.

        Raises:
            RefusedError: 404 if storage has lost it.
        """
        stop = entry.size if stop is None else stop
        file = self.cas.file(entry.xet_hash) if entry.xet_hash else None
        if file:
            return self.cas.read(file, start, stop)
        path = self._lfs / entry.sha256 if entry.sha256 else self._blobs / entry.oid
        if not path.exists():
            raise entry_not_found("The content of this file is no longer in storage")
        return read_file(path, start, stop)

    def forget(self, keep: list[Entry]) -> None:
        """Lose all xet files and LFS objects but those given."""
        self.cas.forget({entry.xet_hash for entry in keep if entry.xet_hash})
        kept = {entry.sha256 for entry in keep}
        with self._lock:
            for sha256 in set(self._sizes) - kept:
                del self._sizes[sha256]
                (self._lfs / sha256).unlink(missing_ok=True)


def read_file(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes [start, stop) of a file on disk."""
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(_READ_BYTES, stop - start))):
            start += len(piece)
            yield piece
