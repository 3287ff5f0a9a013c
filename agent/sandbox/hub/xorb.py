"""Xorbs: runs of chunks as xet uploads them (https://huggingface.co/docs/xet/xorb).

A chunk is an 8-byte header (u8 version, u24 packed length, u8 scheme, u24 length) and its packed bytes.
"""

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lz4.frame

from agent.sandbox.hub.refused import bad_request

MAX_BYTES = 65 * 2**20  # 64 MiB of content, and the chunk headers that go on top
HEADER_BYTES = 8
_FOOTER = b"XETBLOB"
_RAW, _LZ4, _GROUPED_LZ4 = range(3)
_READ_BYTES = 4 * 2**20


def hash_hex(raw: bytes) -> str:
    """Spell a 32-byte hash the way URLs and JSON do: four little-endian u64."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


@dataclass(frozen=True)
class Xorb:
    """Where the chunks of a stored xorb begin, and how long they are unpacked.

    `offsets` has one more item than there are chunks: the end of the last one.
    """

    path: Path
    offsets: "array[int]"
    lengths: "array[int]"

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def parse(cls, path: Path) -> "Xorb":
        """Index a serialized xorb on disk.

        Raises:
            RefusedError: 400 if it is no unbroken run of chunks.
        """
        offsets, lengths, at = array("Q", [0]), array("I"), 0
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while at < size:
                header = os.pread(file.fileno(), HEADER_BYTES, at)
                if header.startswith(_FOOTER):
                    break
                packed, scheme, length = _parse_header(header)
                at += HEADER_BYTES + packed
                if at > size or scheme > _GROUPED_LZ4 or not length:
                    raise bad_request("Invalid xorb: a chunk is cut short or of an unknown kind")
                offsets.append(at)
                lengths.append(length)
        if not lengths:
            raise bad_request("Invalid xorb: it holds no chunk")
        return cls(path, offsets, lengths)

    def unpack(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of chunks [start, end), one chunk at a time.

        Raises:
            RefusedError: 400 if a chunk does not unpack to what its header says.
        """
        with self.path.open("rb") as file:
            first = start
            while first < end:
                last = first + 1
                while last < end and self.offsets[last + 1] - self.offsets[first] <= _READ_BYTES:
                    last += 1
                base = self.offsets[first]
                block = memoryview(os.pread(file.fileno(), self.offsets[last] - base, base))
                for index in range(first, last):
                    yield _unpack(block[self.offsets[index] - base : self.offsets[index + 1] - base])
                first = last


def _parse_header(header: bytes) -> tuple[int, int, int]:
    if len(header) < HEADER_BYTES or header[0] != 0:
        raise bad_request("Invalid xorb: bad chunk header")
    return int.from_bytes(header[1:4], "little"), header[4], int.from_bytes(header[5:8], "little")


def _unpack(chunk: memoryview) -> bytes:
    _, scheme, length = _parse_header(bytes(chunk[:HEADER_BYTES]))
    packed = chunk[HEADER_BYTES:]
    try:
        data = bytes(packed) if scheme == _RAW else bytes(lz4.frame.decompress(packed))
    except RuntimeError as error:
        raise bad_request(f"Invalid xorb: {error}") from error
    if len(data) != length:
        raise bad_request(f"Invalid xorb: a chunk of {length} bytes unpacks to {len(data)}")
    return _ungroup(data) if scheme == _GROUPED_LZ4 else data


def _ungroup(grouped: bytes) -> bytes:
    """Undo byte grouping: the bytes at positions 0, 4, 8 and so on come first, then those at 1, 5, 9."""
    data, at = bytearray(len(grouped)), 0
    for position in range(4):
        count = len(range(position, len(grouped), 4))
        data[position::4] = grouped[at : at + count]
        at += count
    return bytes(data)
