"""What nobody can be faster than: the bytes at the given bandwidth, and one pass over the file."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from bench.folders import MEGA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STEP_BYTES = 2**20


def transfer_s(size_mb: float, rate_mb_s: float) -> float:
    """How long that many bytes take at that bandwidth."""
    return size_mb / rate_mb_s


def hash_s(path: Path) -> float:
    """One read of the file, with its sha256 on the way: whoever proves content does at least that."""
    begun = time.perf_counter()
    digest = hashlib.sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return time.perf_counter() - begun


def read_s(path: Path) -> float:
    """One read of the file, and nothing else."""
    begun = time.perf_counter()
    for _ in _pieces(path):
        pass
    return time.perf_counter() - begun


def size_mb(folder: Path) -> float:
    """All bytes of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MEGA


def _pieces(path: Path) -> Iterator[memoryview]:
    buffer = bytearray(_STEP_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            yield view[:count]
