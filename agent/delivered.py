"""What was brought to a repo's storage before, by its content: it is not sent again.

A hint, like all that is remembered. A commit of content that the Hub does not have is refused; then
everything here is forgotten, and sent. Each entry is sealed: a xet hash that is not what was computed would
make the proof fail of a model that is published well.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.durable import read_document, write_durably
from agent.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

DELIVERED = "delivered.json"  # below AGENT_STATE_DIR
_SKETCHED, _BLOCK_BYTES = 16, 4096
_MOST_FILES, _MOST_REPOS = 2000, 50  # files in one repo; the oldest are forgotten first


@dataclass(frozen=True)
class Content:
    """One file's bytes in storage: `xet_hash` is their name there, `sketch` a hash of a few blocks."""

    sha256: str
    xet_hash: str
    size_bytes: int
    sketch: str


def sketch_of(source: Path, size_bytes: int) -> str:
    """Hash a few blocks spread over the file: what differs here need not be read to be told apart.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256(str(size_bytes).encode())
    handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for number in range(_SKETCHED):
            at = max(0, size_bytes - _BLOCK_BYTES) * number // (_SKETCHED - 1)
            digest.update(os.pread(handle, _BLOCK_BYTES, at))
    finally:
        os.close(handle)
    return digest.hexdigest()


class Delivered:
    """The content that was brought to the storage of one repo.

    Args:
        path: where it is remembered, with that of other repos.
        where: the repo, as no other Hub's is called.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        found = read_document(path).get(where)
        known = [
            _content(sha256, said) for sha256, said in (found if isinstance(found, dict) else {}).items()
        ]
        self._contents = {one.sha256: one for one in known if one}

    def get(self, sha256: str) -> Content | None:
        """The content of this hash, if it was delivered."""
        return self._contents.get(sha256)

    def resembles(self, source: Path, size_bytes: int) -> bool:
        """Whether a file may be one that was delivered, so that it is worth being hashed.

        Raises:
            OSError: it cannot be read.
        """
        sketches = {one.sketch for one in self._contents.values() if one.size_bytes == size_bytes}
        return bool(sketches) and sketch_of(source, size_bytes) in sketches

    def keep(self, content: Content) -> None:
        """Remember what was delivered."""
        self._contents.pop(content.sha256, None)
        self._contents[content.sha256] = content

    def forget(self) -> None:
        """Remember nothing of any repo: it turned out to be wrong."""
        self._contents = {}
        self._write({})

    def save(self) -> None:
        """Write it down beside what others wrote meanwhile; if that fails, the next run asks the storage."""
        document = read_document(self._path)
        document.pop(self._where, None)
        others = dict(list(document.items())[1 - _MOST_REPOS :])
        newest = list(self._contents.values())[-_MOST_FILES:]
        self._write(others | {self._where: {one.sha256: [*_told(one), _seal(one)] for one in newest}})

    def _write(self, document: dict[str, Any]) -> None:
        try:
            write_durably(self._path, document)
        except OSError as error:
            get_logger().warning("not remembered what was sent", path=str(self._path), because=str(error))


def _content(sha256: str, said: Any) -> Content | None:  # noqa: ANN401 - whatever JSON holds
    match said:
        case [str(xet_hash), int(size_bytes), str(sketch), str(seal)]:
            found = Content(sha256, xet_hash, size_bytes, sketch)
            return found if _seal(found) == seal else None
    return None


def _told(content: Content) -> list[str | int]:
    return [content.xet_hash, content.size_bytes, content.sketch]


def _seal(content: Content) -> str:
    return hashlib.sha256(json.dumps([content.sha256, *_told(content)]).encode()).hexdigest()[:16]
