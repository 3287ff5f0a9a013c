"""Repositories: commits, branches, tags and what they hold."""

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.sandbox.hub.refused import revision_not_found

_OID = re.compile(r"[0-9a-f]{40}")


def git_oid(kind: str, content: bytes) -> str:
    """Name an object as git does: the sha1 of its header and content."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """Write the pointer that git keeps in place of a large file (git-lfs spec v1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass(frozen=True)
class Entry:
    """A file in a tree: a git blob, or with `sha256` a large file, or with `xet_hash` one in xet storage."""

    size: int
    oid: str
    sha256: str | None = None
    xet_hash: str | None = None

    @classmethod
    def large(cls, sha256: str, size: int, xet_hash: str | None = None) -> "Entry":
        """Describe a large file; its oid is that of its pointer."""
        return cls(size, git_oid("blob", lfs_pointer(sha256, size)), sha256, xet_hash)


@dataclass(frozen=True)
class Commit:
    """One commit and its whole tree by path; `message` is the description below the title."""

    oid: str
    title: str
    message: str
    author: str
    parent: str | None
    date: datetime
    tree: Mapping[str, Entry] = field(repr=False)


class Repo:
    """One repository. All changes of refs happen under `lock`, so that commits are serialised."""

    def __init__(self, repo_id: str, *, private: bool, creator: str) -> None:
        self.id = repo_id
        self.private = private
        self.creator = creator
        self.created_at = datetime.now(UTC)
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.lock = threading.RLock()
        self._commits: dict[str, Commit] = {}

    @property
    def namespace(self) -> str:
        """The owner, empty for a repository without one."""
        return self.id.rpartition("/")[0]

    def head(self, branch: str = "main") -> str:
        """Return the oid of the newest commit of a branch."""
        return self.branches[branch]

    def commits(self, revision: str = "main") -> list[Commit]:
        """Return the history of a revision, newest first."""
        history, oid = [], self.resolve(revision).oid
        while oid:
            history.append(self._commits[oid])
            oid = self._commits[oid].parent or ""
        return history

    def every_commit(self) -> list[Commit]:
        """Return all commits ever made, those no ref reaches included."""
        with self.lock:
            return list(self._commits.values())

    def resolve(self, revision: str) -> Commit:
        """Find the commit a branch, tag or full oid names.

        Raises:
            RefusedError: 404 RevisionNotFound.
        """
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if not _OID.fullmatch(oid) or oid not in self._commits:
            raise revision_not_found(revision)
        return self._commits[oid]

    def commit(self, branch: str, tree: dict[str, Entry], *, title: str, message: str, author: str) -> Commit:
        """Move a branch to a new commit of `tree`; the branch is made if there is none."""
        with self.lock:
            parent = self.branches.get(branch)
            date = datetime.now(UTC)
            listing = "".join(f"{path}\0{entry.oid}\n" for path, entry in sorted(tree.items()))
            text = (
                f"{parent}\n{author} {date.isoformat()} {len(self._commits)}\n{listing}\n{title}\n\n{message}"
            )
            oid = git_oid("commit", text.encode())
            made = Commit(oid, title, message, author, parent, date, tree)
            self._commits[oid] = made
            self.branches[branch] = oid
            return made
