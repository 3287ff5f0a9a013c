"""Files on their way into a repo: what is sent, what must be found there, and under which message.

Light on purpose: it is imported before it is known whether the Hub will be asked at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST = "finalize.json"
SAMPLE_BYTES = 512
# Trailers of a commit that goes back to an earlier revision: which one, and which rollback it is.
ROLLBACK_TO, ROLLBACK_ID = "Rollback-To", "Rollback-Id"


@dataclass(frozen=True)
class Piece:
    """One file of the publication: its place in the repo, and its bytes in memory or on disk."""

    path: str
    source: bytes | Path
    size_bytes: int

    @classmethod
    def made(cls, path: str, content: bytes) -> Piece:
        """A piece whose bytes are in memory."""
        return cls(path, content, len(content))

    def sample(self) -> bytes:
        """The first bytes, from which the Hub tells text from binary."""
        if isinstance(self.source, bytes):
            return self.source[:SAMPLE_BYTES]
        with self.source.open("rb") as stream:
            return stream.read(SAMPLE_BYTES)

    def read(self) -> bytes:
        """All bytes; only for files small enough to be git blobs."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(frozen=True)
class Stored:
    """What the Hub must show for one file: computed from the bytes that were read here.

    `blob` holds the content of a regular file, which travels inside the commit; for the others
    `xet_hash` is what hf_xet computed while it read, or None if the bytes went up as plain LFS.
    """

    path: str
    size_bytes: int
    sha256: str
    blob: bytes | None = None
    xet_hash: str | None = None


@dataclass(frozen=True)
class Message:
    """First line and trailers of the commit; the Finalize-Id is how it is recognised for ever."""

    title: str
    trailers: Mapping[str, str]

    @property
    def finalize_id(self) -> str:
        """The identity this commit carries."""
        return self.trailers["Finalize-Id"]

    @property
    def description(self) -> str:
        """The lines below the title."""
        return "\n".join(f"{name}: {value}" for name, value in self.trailers.items())
