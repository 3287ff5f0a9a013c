"""Files of a state folder as they are at this moment, whatever they are: nothing is waited for or changed.

Somebody may be writing them, a crash may have torn them, and what lies there may be no file at all. What
cannot be read is a remark, and everything else is told all the same.
"""

from __future__ import annotations

import fcntl
import math
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LONGEST_DOCUMENT, _LONGEST_TRAIL = 4_000_000, 64_000_000  # bytes; ours are far smaller
_BLOCK = 1 << 16
_DEEPEST = 20  # no fact of ours is nested so deep


class _Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    size_bytes: int
    mtime_ns: int


_parsed: dict[Path, tuple[_Stamp, Any]] = {}  # once, however often somebody looks


def document(path: Path, remarks: list[str]) -> dict[str, Any] | None:
    """The JSON object in a file; None, with a remark unless there is no such file, if it holds none."""
    try:
        found: dict[str, Any] = _look(path, _LONGEST_DOCUMENT, _object)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        remarks.append(f"{path} {_because(error)}")
        return None
    return found


def trail(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, without those that are damaged: they are a remark."""
    try:
        entries, damaged = _look(path, _LONGEST_TRAIL, _entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        remarks.append(f"{path} {_because(error)}")
        return []
    if damaged:
        remarks.append(f"{path} has {damaged} damaged line{'s'[: damaged > 1]}, passed over")
    return [*entries]


def newest(path: Path, count: int) -> list[dict[str, Any]]:
    """The last `count` events of a file of JSON lines, read from its end; none if it cannot be read."""
    found: list[dict[str, Any]] = []
    try:
        for line in _lines_backwards(path):
            entry = _entry(line)
            if entry and "event" in entry:
                found.append(entry)
                if len(found) == count:
                    break
    except OSError:
        pass
    return found[::-1]


def is_held(path: Path) -> bool:
    """Whether somebody holds the kernel's lock in this file.

    There is no way to ask without taking it: it is taken as readers do, and let go at once. Whoever wants it
    for himself at this very moment finds it taken, and asks again.
    """
    try:
        handle = _open(path)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def _open(path: Path) -> int:
    """Open a regular file to read it; a pipe that lies in its place is not waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "is not a file")
    return handle


def _look(path: Path, longest: int, parse: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - what it parses to
    with os.fdopen(_open(path), "rb") as stream:
        found = os.fstat(stream.fileno())
        if found.st_size > longest:
            raise OSError(0, f"is too large to be ours ({found.st_size:,} bytes)")
        stamp = _Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
        known = _parsed.get(path)
        if known is None or known[0] != stamp:
            known = _parsed[path] = (stamp, parse(stream.read(found.st_size)))
    return known[1]


def _object(content: bytes) -> dict[str, Any]:
    found = parse_json(content)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the file is wrong, not a type
    plain: dict[str, Any] = _plain(found)
    return plain


def _entries(content: bytes) -> tuple[list[dict[str, Any]], int]:
    lines = [line for line in content.split(b"\n") if line.strip()]
    found = [entry for line in lines if (entry := _entry(line)) is not None]
    # Nearly all hold words and whole numbers only, and there may be thousands.
    entries = [entry if all(map(_is_simple, entry.values())) else _plain(entry) for entry in found]
    return entries, len(lines) - len(entries)


def _is_simple(value: object) -> bool:
    return type(value) in {str, int}


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    with os.fdopen(_open(path), "rb") as stream:
        position = stream.seek(0, os.SEEK_END)
        line: list[bytes] = []  # the pieces of one that began in an earlier block, the last one first
        while position:
            step = min(_BLOCK, position)
            position = stream.seek(position - step)
            first, *lines = stream.read(step).split(b"\n")
            if lines:
                yield lines.pop() + b"".join(reversed(line))
                yield from reversed(lines)
                line.clear()
            line.append(first)
        yield b"".join(reversed(line))


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - whatever JSON holds
    """What readers of JSON of every kind take; somebody's file may hold NaN, or nest without end."""
    if isinstance(value, dict | list) and depth > _DEEPEST:
        return None
    if isinstance(value, dict):
        return {name: _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, depth + 1) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _because(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror) if error.errno == 0 else f"cannot be read: {error.strerror}"
    return f"is damaged: {error}"
