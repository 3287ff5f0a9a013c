"""Shards: what files are made of, as xet registers them (https://huggingface.co/docs/xet/shard).

Rows of 48 bytes after a 48-byte header: file blocks until a bookend row, then xorb blocks until another.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.sandbox.hub.refused import bad_request
from agent.sandbox.hub.xorb import hash_hex

_ROW = 48
_TAG = b"HFRepoMetaData"
_BOOKEND = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Segment:
    """A run of chunks [start, end) of one xorb, `size` bytes unpacked."""

    xorb: str
    start: int
    end: int
    size: int


@dataclass(frozen=True)
class FileClaim:
    """What an uploader says about a file: its xet hash, its parts and its sha256."""

    hash: str
    segments: tuple[Segment, ...]
    sha256: str | None


@dataclass(frozen=True)
class XorbClaim:
    """What an uploader says about a xorb: how many chunks it has and their unpacked bytes."""

    hash: str
    chunks: int
    size: int


@dataclass(frozen=True)
class Shard:
    """A parsed shard; nothing in it has been checked against storage yet."""

    files: tuple[FileClaim, ...]
    xorbs: tuple[XorbClaim, ...]


def parse(data: bytes) -> Shard:
    """Read a shard in upload form (without a footer) or in stored form.

    Raises:
        RefusedError: 400 if it is not whole.
    """
    if len(data) < _ROW or not data.startswith(_TAG):
        raise bad_request("Invalid shard: bad header")
    version, footer = struct.unpack_from("<QQ", data, 32)
    if version != 2:  # noqa: PLR2004 - the only version there is
        raise bad_request(f"Invalid shard: unknown version {version}")
    rows = _Rows(data, _ROW)
    shard = Shard(tuple(_files(rows)), tuple(_xorbs(rows)))
    if not footer and rows.at != len(data):
        raise bad_request("Invalid shard: bytes after its end")
    return shard


class _Rows:
    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, count: int = 1) -> bytes:
        end = self.at + _ROW * count
        if end > len(self.data):
            raise bad_request("Invalid shard: cut short")
        rows, self.at = self.data[self.at : end], end
        return rows


def _files(rows: _Rows) -> Iterator[FileClaim]:
    while not (head := rows.take()).startswith(_BOOKEND):
        flags, count = struct.unpack_from("<II", head, 32)
        body, segments = rows.take(count), []
        for at in range(0, len(body), _ROW):
            _, size, start, end = struct.unpack_from("<4I", body, at + 32)
            segments.append(Segment(hash_hex(body[at : at + 32]), start, end, size))
        if flags & _HAS_VERIFICATION:
            rows.take(count)
        sha256 = hash_hex(rows.take()[:32]) if flags & _HAS_METADATA else None
        yield FileClaim(hash_hex(head[:32]), tuple(segments), sha256)


def _xorbs(rows: _Rows) -> Iterator[XorbClaim]:
    while not (head := rows.take()).startswith(_BOOKEND):
        _, count, size = struct.unpack_from("<3I", head, 32)
        rows.take(count)
        yield XorbClaim(hash_hex(head[:32]), count, size)
