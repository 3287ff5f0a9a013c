"""Files that survive a crash, also on a network file system.

A document is written as a temporary file in the same folder, flushed to disk, renamed, and the folder
flushed: after a crash a reader finds the old document or the new one. A trail grows by whole lines; the
last one may be torn, and is then passed over.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from agent.parse import parse_json


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


def append_durably(path: Path, entry: dict[str, Any]) -> None:
    """Add one JSON line to the trail at `path`; it is on disk when this returns.

    Raises:
        OSError: the folder cannot be written; the lines before are untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One write: readers see the whole line. The line break comes first too, in case the last line is torn.
    line = json.dumps(entry, allow_nan=False, ensure_ascii=False)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        torn = os.fstat(handle).st_size and not _ends_a_line(path)
        os.write(handle, f"{chr(10) if torn else ''}{line}\n".encode("utf-8", "replace"))
        os.fsync(handle)
    finally:
        os.close(handle)


def read_trail(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a trail, without lines that are damaged."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = parse_json(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
