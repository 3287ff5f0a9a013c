"""The bytes that the Hub really hands out at one commit: hashed while they arrive, never kept.

A connection that breaks is taken up where it broke; what a commit holds does not change meanwhile.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2
from huggingface_hub.utils import get_session, hf_raise_for_status

from agent.errors import HubRefusedError
from agent.retry import READ, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.hub.repo import Entry, Repo

LARGEST_DOCUMENT = 32_000_000  # bytes; a manifest of as many files as one commit takes has ten million
_WHOLE = 200
_GONE = {404, 410, 416}  # the last one of a file that is shorter than where it was asked for


class NotServedError(HubRefusedError):
    """The Hub lists a file and does not hand it out; the message is what it says."""


@dataclass(frozen=True)
class Served:
    """What was read of one file; `size_bytes` is one over the listed size if there was more to come."""

    size_bytes: int
    sha256: str
    blob_id: str


class Content:
    """The files of one commit, as whoever downloads them gets them.

    The token goes to the Hub alone: the session takes it from a request that is sent on to another host.

    Args:
        repo: the repo.
        oid: the commit.

    Attributes:
        read_bytes: what arrived so far.
    """

    def __init__(self, repo: Repo, oid: str) -> None:
        self._repo, self._oid = repo, oid
        self._documents: dict[str, bytes] = {}
        self.read_bytes = 0

    def document(self, entry: Entry) -> bytes:
        """A small file, asked for once; of a larger one what it begins with.

        Raises:
            NotServedError: the Hub has no such content.
            HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
        """
        if entry.path not in self._documents:
            size_bytes = min(entry.size_bytes, LARGEST_DOCUMENT)
            self._documents[entry.path] = self.start(entry.path, size_bytes)
        return self._documents[entry.path]

    def start(self, path: str, count: int) -> bytes:
        """The first `count` bytes of a file, fewer if it has fewer.

        Raises:
            NotServedError: the Hub has no such content.
            HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
        """

        def attempt() -> bytes:
            found = bytearray()
            for piece in self._pieces(path, 0, count):
                found += piece
                if len(found) >= count:
                    break
            return bytes(found[:count])

        return self._ask(path, attempt) if count else b""

    def serve(self, entry: Entry, moved: Callable[[], None]) -> Served:
        """Read a whole file and hash it, in bounded memory.

        Args:
            entry: as the Hub lists it.
            moved: called for every piece that arrives.

        Raises:
            NotServedError: the Hub has no such content.
            HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
        """
        reading = _Reading(entry, partial(self._pieces, entry.path), moved)
        while not reading.done:
            self._ask(entry.path, reading.go_on)
        return reading.served()

    def _ask(self, path: str, attempt: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the attempt returns
        client = self._repo.client
        try:
            return client.attempts(READ, attempt)
        except RemoteFailure as failure:
            if failure.status in _GONE:
                raise NotServedError(failure.words, hint=f"Publish {self._repo.repo_id} again.") from failure
            raise client.explain(failure, f"read {path} of {self._repo.repo_id}") from failure

    def _pieces(self, path: str, begin: int, end: int | None) -> Iterator[bytes]:
        """The bytes from `begin` on, from one request; without `end`, all that there are."""
        client = self._repo.client
        url = f"{client.endpoint}/{self._repo.repo_id}/resolve/{self._oid}/{quote(path)}"
        headers = {**client.headers, "Accept-Encoding": "identity"}
        if begin or end:
            headers["Range"] = f"bytes={begin}-{end - 1 if end else ''}"
        with get_session().stream("GET", url, headers=headers) as response:
            hf_raise_for_status(response)
            at = _begins_at(response.status_code, response.headers)
            if at > begin:
                raise RemoteFailure(f"bytes from {at:,} on instead of {begin:,}", status=None)
            # Pieces as they come: gathered ones would be lost with the connection.
            for piece in response.iter_bytes():
                client.patience.progress()
                self.read_bytes += len(piece)
                wanted = piece[max(0, begin - at) :]
                at += len(piece)
                if wanted:
                    yield wanted


class _Reading:
    """One file on its way: what a broken connection brought is not asked for again."""

    def __init__(
        self,
        entry: Entry,
        pieces: Callable[[int, int | None], Iterator[bytes]],
        moved: Callable[[], None],
    ) -> None:
        self._listed_bytes, self._pieces, self._moved = entry.size_bytes, pieces, moved
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(b"blob %d\0" % entry.size_bytes, usedforsecurity=False)
        self._size_bytes = 0
        self.done = False

    def go_on(self) -> None:
        """Read to the end; a request that brought something and broke is no failure, and the next goes on."""
        before = self._size_bytes
        try:
            self._read()
        except httpx2.TransportError:
            if self._size_bytes == before:
                raise
        else:
            self.done = True

    def _read(self) -> None:
        if self._size_bytes and self._size_bytes == self._listed_bytes:
            return  # it broke behind the last byte
        for piece in self._pieces(self._size_bytes, None):
            known = piece[: self._listed_bytes - self._size_bytes]
            self._sha256.update(known)
            self._sha1.update(known)
            self._size_bytes += len(known)
            self._moved()
            if len(known) < len(piece):
                self._size_bytes += 1
                return

    def served(self) -> Served:
        """The hashes of what was read."""
        return Served(self._size_bytes, self._sha256.hexdigest(), self._sha1.hexdigest())


def _begins_at(status: int, headers: Any) -> int:  # noqa: ANN401 - httpx2's own
    """Where in the file an answer begins; a server may send all of it whatever was asked for."""
    if status == _WHOLE:
        return 0
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    if not found:
        raise RemoteFailure(f"no bytes, but the status {status}", status=None)
    return int(found[1])
