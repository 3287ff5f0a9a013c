"""Which files are in the repo's storage already: told by their stamp, else by reading them once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.artifact import digest
from agent.delivered import Content, sketch_of
from agent.hub.files import Piece, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.artifact import LocalFile
    from agent.delivered import Delivered
    from agent.hashes import HashMemory


class Recognition:
    """The files of one publication beside what was delivered before.

    Args:
        files: what is published as it is.
        memory: hashes of files by their stamp.
        delivered: the repo's content.
        known: sha256 by path of those that were read in this run already.
        moved: called whenever a file was read to its end.
    """

    def __init__(
        self,
        files: Iterable[LocalFile],
        memory: HashMemory,
        delivered: Delivered,
        *,
        known: Mapping[str, str],
        moved: Callable[[], None],
    ) -> None:
        self._files = {file.path: file for file in files}
        self._memory, self._delivered, self._moved = memory, delivered, moved
        self._read = dict(known)

    def at_once(self, pieces: Sequence[Piece]) -> dict[str, Stored]:
        """Those of which it is known without being read that they were delivered, by path."""
        found = {}
        for piece in pieces:
            source = self._files[piece.path].source
            sha256 = self._read.get(piece.path) or self._memory.recall(source, "sha256")
            if sha256 and (stored := self._stored(piece, sha256)):
                found[piece.path] = stored
        return found

    def alike(self, pieces: Sequence[Piece]) -> set[str]:
        """Paths of those that may have been delivered under another name, such as a checkpoint's.

        Raises:
            OSError: one cannot be read.
        """
        return {
            piece.path
            for piece in pieces
            if self._delivered.resembles(self._files[piece.path].source, piece.size_bytes)
        }

    def by_reading(self, pieces: Sequence[Piece]) -> dict[str, Stored]:
        """Those that turn out to have been delivered, by path; each is read once, however often it is asked.

        Raises:
            OSError: one cannot be read.
        """
        unread = [self._files[piece.path] for piece in pieces if piece.path not in self._read]
        self._read |= digest(unread, self._memory, self._moved)
        found = {piece.path: self._stored(piece, self._read[piece.path]) for piece in pieces}
        return {path: stored for path, stored in found.items() if stored}

    def sha256(self, path: str) -> str | None:
        """The hash of a file that was read here."""
        return self._read.get(path)

    def keep(self, stored: Iterable[Stored]) -> None:
        """Remember what was delivered now.

        Raises:
            OSError: a file cannot be read.
        """
        for one in stored:
            file = self._files.get(one.path)
            if file and one.xet_hash and self._delivered.get(one.sha256) is None:
                sketch = sketch_of(file.source, one.size_bytes)
                self._delivered.keep(Content(one.sha256, one.xet_hash, one.size_bytes, sketch))
        self._delivered.save()

    def _stored(self, piece: Piece, sha256: str) -> Stored | None:
        content = self._delivered.get(sha256)
        if content is None or content.size_bytes != piece.size_bytes:
            return None
        return Stored(piece.path, piece.size_bytes, sha256, xet_hash=content.xet_hash)
