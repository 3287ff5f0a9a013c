"""Getting bytes into the Hub's storage, where no reader sees them until a commit names them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from huggingface_hub.utils import chunk_iterable

from agent.errors import HubRefusedError
from agent.hub import lfs, xet
from agent.hub.files import Piece, Stored
from agent.log import get_logger
from agent.progress import meter
from agent.retry import CONTENT, READ, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from agent.hub.repo import Repo

_BATCH = 256  # files the Hub accepts in one preupload call
UNKNOWN_CONTENT = 400  # a shard names xorbs that only our cache remembers
_XET_STRIKES = 2  # attempts in which xet moved no byte, after which LFS is tried


class Recognition(Protocol):
    """Tells which files the repo's storage has already."""

    def at_once(self, pieces: Sequence[Piece]) -> Mapping[str, Stored]:
        """Those that are known without being read, by path."""
        ...

    def alike(self, pieces: Sequence[Piece]) -> Collection[str]:
        """Paths of those that are worth being read, because storage may have them."""
        ...

    def by_reading(self, pieces: Sequence[Piece]) -> Mapping[str, Stored]:
        """Those that turn out to be there, by path; called again, it gives the same."""
        ...

    def sha256(self, path: str) -> str | None:
        """The hash of a file, where it is known."""
        ...


@dataclass(frozen=True)
class Delivery:
    """All pieces in the Hub's storage, and how many bytes had to travel for it."""

    stored: tuple[Stored, ...]
    sent_bytes: int


def deliver(
    repo: Repo,
    pieces: Sequence[Piece],
    later: Mapping[str, bytes],
    recognition: Recognition,
    *,
    forget: Callable[[], None],
    meanwhile: Callable[[], Sequence[Piece]] = tuple,
) -> Delivery:
    """Bring every piece's bytes to the Hub; nothing is visible to readers yet.

    Repeating it is safe: storage is addressed by content and keeps what it has.

    Args:
        repo: where a commit will name them.
        pieces: the files.
        later: how files begin that are not made yet, by path.
        recognition: tells which of them were delivered before. Those that have to be read for it are read
            while the others are on their way.
        forget: drops what is remembered of earlier uploads, when storage turns out not to have it.
        meanwhile: called when everything else is on its way: more pieces, of paths in `later`, that belong
            into large file storage. Called again, it gives the same.

    Raises:
        HubRefusedError: the repo's .gitignore would silently drop one of the files.
        HubUnreachableError, HubAuthError: as for every call.
    """
    modes = upload_modes(repo, pieces, later)
    stored = [_regular(piece) for piece in pieces if modes[piece.path] == "regular"]
    large = [piece for piece in pieces if modes[piece.path] != "regular"]
    there = recognition.at_once(large)
    large = [piece for piece in large if piece.path not in there]
    alike = recognition.alike(large)
    doubtful = [piece for piece in large if piece.path in alike]
    fresh = [piece for piece in large if piece.path not in alike]

    def late() -> list[Piece]:
        found = recognition.by_reading(doubtful)
        return [*(piece for piece in doubtful if piece.path not in found), *meanwhile()]

    sent = 0
    if fresh or late():
        with meter("uploading", sum(piece.size_bytes for piece in large)) as shown:
            sender = _Sender(repo, fresh, late, recognition.sha256, shown=shown, forget=forget)
            uploaded, sent = sender.run()
            stored += uploaded
    stored += [*there.values(), *recognition.by_reading(doubtful).values()]
    return Delivery(tuple(sorted(stored, key=lambda one: one.path)), sent)


def _regular(piece: Piece) -> Stored:
    content = piece.read()
    return Stored(piece.path, len(content), hashlib.sha256(content).hexdigest(), blob=content)


def upload_modes(
    repo: Repo, pieces: Sequence[Piece], later: Mapping[str, bytes] = MappingProxyType({})
) -> dict[str, str]:
    """Ask how each file is kept; a file the Hub would ignore is an error, never an omission."""
    files = [(piece.path, piece.sample(), piece.size_bytes) for piece in pieces]
    files += [(path, sample, len(sample)) for path, sample in later.items()]
    route = f"/api/models/{repo.repo_id}/preupload/{quote(repo.branch, safe='')}"
    modes: dict[str, str] = {}
    ignored: list[str] = []
    for batch in chunk_iterable(files, _BATCH):
        asked = [
            {"path": path, "sample": base64.b64encode(sample).decode(), "size": size}
            for path, sample, size in batch
        ]
        answer = repo.client.ask(
            READ, f"prepare the upload to {repo.repo_id}", partial(_preupload, repo, route, asked)
        )
        for path, (mode, drop) in answer.items():
            modes[path] = mode
            if drop:
                ignored.append(path)
    if ignored:
        raise HubRefusedError(
            f"The .gitignore of {repo.repo_id} would drop {', '.join(sorted(ignored))} from the commit.",
            hint="Remove these patterns from the .gitignore on the Hub, then run again.",
        )
    # The Hub keeps empty files in git whatever their name: no storage takes zero bytes.
    return modes | {path: "regular" for path, _, size in files if size == 0}


def _preupload(repo: Repo, route: str, asked: list[dict[str, Any]]) -> dict[str, tuple[str, bool]]:
    """One call: (mode, whether it would be dropped) of every path that was asked for."""
    answer = repo.client.post(route, {"files": asked})["files"]
    modes = {item["path"]: (item["uploadMode"], bool(item.get("shouldIgnore"))) for item in answer}
    return {file["path"]: modes[file["path"]] for file in asked}


class _Sender:
    """Sends large files by xet, and by plain LFS when xet is off or its host cannot be reached."""

    def __init__(
        self,
        repo: Repo,
        pieces: Sequence[Piece],
        late: Callable[[], Sequence[Piece]],
        known: Callable[[str], str | None],
        *,
        shown: xet.Shown,
        forget: Callable[[], None],
    ) -> None:
        self._repo, self._pieces, self._late = repo, pieces, late
        self._known, self._shown = known, shown
        self._forget: Callable[[], None] | None = forget
        self._strikes = 0 if xet.available() else _XET_STRIKES
        self.sent_bytes = 0

    def run(self) -> tuple[list[Stored], int]:
        """Return what is stored, and the bytes sent over all attempts."""
        stored = self._repo.client.ask(CONTENT, f"upload to {self._repo.repo_id}", self._attempt)
        return stored, self.sent_bytes

    def _attempt(self) -> list[Stored]:
        if self._strikes < _XET_STRIKES:
            return self._by_xet()
        return self._by_lfs()

    def _by_xet(self) -> list[Stored]:
        upload = xet.Upload(self._repo, self._shown)
        try:
            found = upload.run(self._sources(self._pieces), meanwhile=lambda: self._sources(self._late()))
        except RemoteFailure as failure:
            if failure.status == UNKNOWN_CONTENT and self._forget:
                get_logger().warning(
                    "storage lost what was sent earlier; sending again", because=failure.words
                )
                self._forget()
                self._forget, self._known = None, lambda _path: None
                return self._by_xet()
            self._strikes = _XET_STRIKES if not failure.transient else self._strikes + 1
            if upload.sent_bytes and failure.transient:
                self._strikes = 0
            if self._strikes >= _XET_STRIKES:
                get_logger().warning("xet does not work here; sending as plain LFS", because=failure.words)
                return self._by_lfs()
            raise
        finally:
            self.sent_bytes += upload.sent_bytes
        return [
            Stored(piece.path, piece.size_bytes, sha256, xet_hash=xet_hash)
            for piece, (sha256, xet_hash) in zip([*self._pieces, *self._late()], found, strict=True)
        ]

    def _sources(self, pieces: Sequence[Piece]) -> list[tuple[bytes | Path, str | None]]:
        return [(piece.source, self._known(piece.path)) for piece in pieces]

    def _by_lfs(self) -> list[Stored]:
        upload = lfs.Upload(self._repo, self._shown)
        try:
            sha256s = upload.run([(piece.path, piece.source) for piece in self._pieces])
            if self._late():
                sha256s += upload.run([(piece.path, piece.source) for piece in self._late()])
        finally:
            self.sent_bytes += upload.sent_bytes
        return [
            Stored(piece.path, piece.size_bytes, sha256)
            for piece, sha256 in zip([*self._pieces, *self._late()], sha256s, strict=True)
        ]
