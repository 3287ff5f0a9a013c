"""Xet content-addressed storage: xorbs on disk, and the files that are made of them.

A file is believed only after it was rebuilt from its xorbs and its sha256 computed. Chunk and xorb hashes
(keyed BLAKE3) are taken as given: they name things, the sha256 proves them.
"""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.sandbox.hub.refused import bad_request
from agent.sandbox.hub.shard import FileClaim, Segment, Shard
from agent.sandbox.hub.xorb import Xorb
from agent.sandbox.loopback.refused import RefusedError


@dataclass(frozen=True)
class XetFile:
    """A file that was rebuilt and proven."""

    hash: str
    segments: tuple[Segment, ...]
    size: int
    sha256: str


class Cas:
    """The store. Its methods read and hash whole files: call them from a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._xorbs: dict[str, Xorb] = {}
        self._files: dict[str, XetFile] = {}
        self._by_sha256: dict[str, XetFile] = {}

    def has_xorb(self, name: str) -> bool:
        """Tell whether a xorb is in storage."""
        return name in self._xorbs

    def add_xorb(self, name: str, received: Path) -> bool:
        """Take a received xorb over into storage; False if it was there before.

        Raises:
            RefusedError: 400 if it is malformed.
        """
        parsed = Xorb.parse(received)
        with self._lock:
            if name in self._xorbs:
                return False
            path = received.replace(self.root / name)
            self._xorbs[name] = Xorb(path, parsed.offsets, parsed.lengths)
            return True

    def register(self, shard: Shard) -> bool:
        """Register all files of a shard, or none; False if all were known.

        Raises:
            RefusedError: 400 if it names what is not in storage, or lies about a file.
        """
        for claim in shard.xorbs:
            xorb = self._xorb(claim.hash)
            if claim.chunks != len(xorb) or claim.size != sum(xorb.lengths):
                raise bad_request(f"Invalid shard: xorb {claim.hash} is not as described")
        files = [self._prove(claim) for claim in shard.files]
        with self._lock:
            missing = [s.xorb for file in files for s in file.segments if s.xorb not in self._xorbs]
            if missing:  # forgotten while the files were rebuilt
                raise _unknown_xorb(missing[0])
            news = [file for file in files if file.hash not in self._files]
            for file in files:
                self._files[file.hash] = file
                self._by_sha256[file.sha256] = file
        return bool(news)

    def file(self, name: str) -> XetFile | None:
        """Return the file of that xet hash."""
        return self._files.get(name)

    def by_sha256(self, sha256: str) -> XetFile | None:
        """Return the file whose content has that sha256."""
        return self._by_sha256.get(sha256)

    def read(self, file: XetFile, start: int, stop: int) -> Iterator[bytes]:
        """Yield bytes [start, stop) of a file, rebuilt from its xorbs."""
        at = 0
        for segment in file.segments:
            if at < stop and at + segment.size > start:
                for chunk in self._xorb(segment.xorb).unpack(segment.start, segment.end):
                    piece = chunk[max(start - at, 0) : max(stop - at, 0)]
                    at += len(chunk)
                    if piece:
                        yield piece
            else:
                at += segment.size

    def terms(self, file: XetFile, start: int, stop: int) -> tuple[int, list[Segment]]:
        """Return where in a chunk bytes [start, stop) begin, and the runs of chunks they lie in."""
        at, skip, terms = 0, None, []
        for segment in file.segments:
            chunks = []
            for index, length in enumerate(self._xorb(segment.xorb).lengths[segment.start : segment.end]):
                if at < stop and at + length > start:
                    skip = start - at if skip is None else skip
                    chunks.append((segment.start + index, length))
                at += length
            if chunks:
                size = sum(length for _, length in chunks)
                terms.append(Segment(segment.xorb, chunks[0][0], chunks[-1][0] + 1, size))
        return skip or 0, terms

    def xorb_range(self, segment: Segment) -> tuple[int, int]:
        """Return the first and the last byte of a run of chunks inside its serialized xorb."""
        offsets = self._xorb(segment.xorb).offsets
        return offsets[segment.start], offsets[segment.end] - 1

    def xorb_path(self, name: str) -> Path:
        """Return the file that holds a xorb.

        Raises:
            RefusedError: 404 if there is none.
        """
        xorb = self._xorbs.get(name)
        if xorb is None:
            raise RefusedError(404, f"Xorb not found: {name}")
        return xorb.path

    def forget(self, keep: set[str]) -> None:
        """Lose all files but those of the given xet hashes, and the xorbs only they used."""
        with self._lock:
            self._files = {name: file for name, file in self._files.items() if name in keep}
            self._by_sha256 = {file.sha256: file for file in self._files.values()}
            used = {segment.xorb for file in self._files.values() for segment in file.segments}
            for name in set(self._xorbs) - used:
                self._xorbs.pop(name).path.unlink()

    def _xorb(self, name: str) -> Xorb:
        xorb = self._xorbs.get(name)
        if xorb is None:
            raise _unknown_xorb(name)
        return xorb

    def _prove(self, claim: FileClaim) -> XetFile:
        known = self._files.get(claim.hash)
        if known and (known.segments, known.sha256) == (claim.segments, claim.sha256 or known.sha256):
            return known
        for segment in claim.segments:
            lengths = self._xorb(segment.xorb).lengths
            if not segment.start < segment.end <= len(lengths):
                raise bad_request(
                    f"Invalid shard: xorb {segment.xorb} has {len(lengths)} chunks, not {segment.end}"
                )
            if sum(lengths[segment.start : segment.end]) != segment.size:
                raise bad_request(f"Invalid shard: wrong length for chunks of xorb {segment.xorb}")
        size = sum(segment.size for segment in claim.segments)
        digest = hashlib.sha256()
        try:
            for segment in claim.segments:
                for chunk in self._xorb(segment.xorb).unpack(segment.start, segment.end):
                    digest.update(chunk)
        except FileNotFoundError as error:
            raise bad_request("Invalid shard: a xorb went away while the file was rebuilt") from error
        sha256 = digest.hexdigest()
        if claim.sha256 != sha256 or (known and known.sha256 != sha256):
            raise bad_request(f"Invalid shard: file {claim.hash} has sha256 {sha256}, not {claim.sha256}")
        return XetFile(claim.hash, claim.segments, size, sha256)


def _unknown_xorb(name: str) -> RefusedError:
    return bad_request(f"Invalid shard: xorb {name} is not in storage")
