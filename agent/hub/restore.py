"""Going back to an earlier tree: one new commit that holds exactly its files, on the head that was seen.

Large files are named by their hashes: their content is in the repo's storage, and nothing is uploaded.
Regular files travel inside the commit and are read back first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from agent.errors import HubRefusedError, VerifyMismatchError
from agent.hub.commit import MOVED, send, status_of
from agent.hub.files import ROLLBACK_ID, Stored
from agent.hub.verify import git_blob_id
from agent.log import get_logger
from agent.retry import COMMIT, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.hub.files import Message
    from agent.hub.repo import Commit, Entry, Repo

    Tree = Mapping[str, Entry]

_NAMED = 5  # commits that a sentence names


class MovedOnError(HubRefusedError):
    """Somebody committed to the branch meanwhile; nothing of it was overwritten."""


@dataclass(frozen=True)
class Difference:
    """What lies between two trees: files that are put back as they were, and files that are removed."""

    restored: tuple[Entry, ...]
    deleted: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.restored or self.deleted)


def difference(now: Tree, then: Tree) -> Difference:
    """What turns the tree of now into that of then."""
    restored = (entry for path, entry in sorted(then.items()) if not same(entry, now.get(path)))
    return Difference(tuple(restored), tuple(sorted(now.keys() - then.keys())))


def same(one: Entry, other: Entry | None) -> bool:
    """Whether two entries are one file: git's id covers content, or for a large file its sha256 and size."""
    return other is not None and (one.oid, one.sha256, one.size_bytes) == (
        other.oid,
        other.sha256,
        other.size_bytes,
    )


def contents(repo: Repo, oid: str, entries: Sequence[Entry]) -> list[Stored]:
    """Bring together what a commit must carry to put these files of a revision back.

    Raises:
        VerifyMismatchError: the Hub hands out other bytes than it lists.
    """
    return [_content(repo, oid, entry) for entry in entries]


def _content(repo: Repo, oid: str, entry: Entry) -> Stored:
    if entry.sha256:
        return Stored(entry.path, entry.size_bytes, entry.sha256)
    blob = repo.read(oid, entry.path)
    if git_blob_id(blob) != entry.oid:
        raise VerifyMismatchError(
            f"{entry.path} of {repo.repo_id} at {oid[:8]} has other bytes than the Hub lists for it.",
            hint="Nothing was changed. Run again; if it repeats, report it to the Hub with the commit above.",
        )
    return Stored(entry.path, len(blob), hashlib.sha256(blob).hexdigest(), blob=blob)


def restore(
    repo: Repo, *, head: Commit, stored: Sequence[Stored], deleted: Sequence[str], message: Message
) -> str:
    """Commit on top of `head` and nowhere else; return the commit's oid.

    A lost answer is never repeated blindly: the branch is searched for the message's Rollback-Id first.

    Raises:
        MovedOnError: somebody else's commit came in between; the branch is as they left it.
        HubUnreachableError: the outcome is unknown; the next run finds out.
        HubRefusedError, HubAuthError: the Hub said no; nothing changed.
    """
    sent = False

    def attempt() -> str:
        nonlocal sent
        if sent:
            since = since_then(repo, head)
            arrived = find(since, message.trailers[ROLLBACK_ID])
            if arrived:
                get_logger().info("the commit had arrived", commit=arrived.oid)
                return arrived.oid
            if since:
                raise moved_on(repo, since)
        sent = True
        try:
            return send(repo, head, stored, deleted, message)
        except Exception as error:
            if status_of(error) == MOVED:
                raise RemoteFailure("the branch moved while we were committing", status=None) from error
            raise

    return repo.client.ask(COMMIT, f"roll back {repo.repo_id}", attempt)


def since_then(repo: Repo, head: Commit) -> list[Commit]:
    """The commits that came after `head`, newest first; all of them if the history was rewritten."""
    return list(takewhile(lambda one: one.oid != head.oid, repo.history()))


def find(commits: Sequence[Commit], rollback_id: str) -> Commit | None:
    """The commit of that rollback among these."""
    return next((one for one in commits if one.trailer(ROLLBACK_ID) == rollback_id), None)


def moved_on(repo: Repo, newer: Sequence[Commit]) -> MovedOnError:
    """The refusal to roll back over commits that nobody had seen when the rollback was asked for."""
    told = ", ".join(f"{one.oid[:12]} ({one.title})" for one in newer[:_NAMED])
    told += f" and {len(newer) - _NAMED} more" if len(newer) > _NAMED else ""
    return MovedOnError(
        f"{repo.repo_id} ({repo.branch}) moved while it was rolled back: {told} came in between. Nothing was "
        "changed.",
        hint="Look at what came; run the same command again to roll back over it, too.",
    )


def prove_same(repo: Repo, oid: str, then: Tree) -> None:
    """Return only if a commit holds exactly the files of then, down to the storage's own hash.

    Raises:
        VerifyMismatchError: naming each file that differs.
    """
    now = repo.tree(oid)
    wrong = [f"{path}: left" for path in sorted(now.keys() - then.keys())]
    for path, entry in sorted(then.items()):
        found = now.get(path)
        if found is None:
            wrong.append(f"{path}: missing")
        elif not same(entry, found) or _stored_otherwise(entry, found):
            wrong.append(f"{path}: differs")
    if wrong:
        raise VerifyMismatchError(
            f"{repo.repo_id} at {oid[:8]} is not the revision it was rolled back to: {'; '.join(wrong)}.",
            hint=f"Do not use {repo.url}. Run the same command again; if it repeats, report it to the Hub "
            "with the commit above.",
        )


def _stored_otherwise(one: Entry, other: Entry) -> bool:
    """Whether storage names two contents; a file that once came as plain LFS had no such name then."""
    return None not in {one.xet_hash, other.xet_hash} and one.xet_hash != other.xet_hash
