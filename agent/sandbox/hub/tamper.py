"""Lies on order, for tests of verification: what is listed differs from what is stored."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.sandbox.hub.repos import Entry, git_oid

_INVENTED = b"never committed\n"


class Tamper:
    """The lies in force; listings (tree, paths-info, siblings) pass through `listed`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Tell the truth again."""
        self._changes: dict[tuple[str, str], dict[str, Any]] = {}
        self._hidden: set[tuple[str, str]] = set()
        self._extra: set[tuple[str, str]] = set()
        self._dropped: set[str] = set()
        self._served: dict[tuple[str, str], bytes] = {}

    def tree_sha256(self, repo: str, path: str, sha256: str) -> None:
        """List a large file with another sha256."""
        self._change(repo, path, sha256=sha256)

    def tree_xet_hash(self, repo: str, path: str, xet_hash: str) -> None:
        """List a file with another xet hash."""
        self._change(repo, path, xet_hash=xet_hash)

    def tree_size(self, repo: str, path: str, size: int) -> None:
        """List a file with another size."""
        self._change(repo, path, size=size)

    def tree_oid(self, repo: str, path: str, oid: str) -> None:
        """List a file with another git oid."""
        self._change(repo, path, oid=oid)

    def hide(self, repo: str, path: str) -> None:
        """Leave a file out of the listings."""
        self._hidden.add((repo, path))

    def extra(self, repo: str, path: str) -> None:
        """List a file that was never committed."""
        self._extra.add((repo, path))

    def serve(self, repo: str, path: str, content: bytes) -> None:
        """Hand out other bytes than those that are listed."""
        self._served[repo, path] = content

    def served(self, repo: str, path: str) -> bytes | None:
        """The bytes to hand out instead of the true ones."""
        return self._served.get((repo, path))

    def commit_drops(self, path: str) -> None:
        """Let commits leave this file out, and answer success."""
        self._dropped.add(path)

    def drops(self, path: str) -> bool:
        """Tell whether commits leave this file out."""
        return path in self._dropped

    def listed(self, repo: str, tree: Mapping[str, Entry]) -> dict[str, Entry]:
        """Return a tree as it is to be listed."""
        shown = {path: entry for path, entry in tree.items() if (repo, path) not in self._hidden}
        for name, path in self._extra:
            if name == repo:
                shown[path] = Entry(len(_INVENTED), git_oid("blob", _INVENTED))
        for (name, path), changes in self._changes.items():
            if name == repo and path in shown:
                shown[path] = replace(shown[path], **changes)
        return shown

    def _change(self, repo: str, path: str, **change: object) -> None:
        self._changes.setdefault((repo, path), {}).update(change)
