"""Files that are complete as far as anybody can tell from outside: closed, and left alone for a while."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from agent.artifact import LocalFile

SETTLED_NS = 3_000_000_000  # more than git's racy two seconds: then the hash is remembered, too


def are_settled(files: Collection[LocalFile], now_ns: int) -> bool:
    """Whether nobody has changed one for a while, and none is open for writing.

    Args:
        files: as they are now.
        now_ns: nanoseconds since the epoch.
    """
    changed_ns = max((max(file.stamp.mtime_ns, file.stamp.ctime_ns) for file in files), default=now_ns)
    if now_ns - changed_ns < SETTLED_NS:
        return False
    return {(file.stamp.device, file.stamp.inode) for file in files}.isdisjoint(_written_to())


def _written_to() -> Iterator[tuple[int, int]]:
    """Device and inode of every file that a process we may look into has open for writing."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with suppress(OSError):
            for handle in os.listdir(process / "fd"):  # noqa: PTH208 - names are all that is needed
                with suppress(OSError, ValueError):
                    if _is_writing(process / "fdinfo" / handle):
                        found = (process / "fd" / handle).stat()
                        yield found.st_dev, found.st_ino


def _is_writing(info: Path) -> bool:
    for line in info.read_text(encoding="ascii").splitlines():
        if line.startswith("flags:"):
            return bool(int(line.split()[1], 8) & os.O_ACCMODE)
    return False
