"""Repositories as the API describes them; every listing passes through the lies in force."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from agent.sandbox.hub.repos import Commit, Entry, Repo, lfs_pointer


def describe_file(path: str, entry: Entry, *, xet: bool) -> dict[str, Any]:
    """Describe a file as `tree` and `paths-info` do; `xet` false hides the xet hash."""
    described: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.sha256:
        pointer = len(lfs_pointer(entry.sha256, entry.size))
        described["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": pointer}
    if entry.xet_hash and xet:
        described["xetHash"] = entry.xet_hash
    return described


def describe_folder(path: str, tree: Mapping[str, Entry]) -> dict[str, Any]:
    """Describe a folder; its oid changes with what is in it."""
    inside = "".join(f"{name}\0{tree[name].oid}\n" for name in sorted(tree) if name.startswith(f"{path}/"))
    oid = hashlib.sha1(inside.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def folders(paths: Iterable[str]) -> set[str]:
    """Return all folders that files lie in."""
    found = set()
    for path in paths:
        while path := path.rpartition("/")[0]:
            found.add(path)
    return found


def under(tree: Mapping[str, Entry], folder: str, *, recursive: bool) -> list[str]:
    """Return the sorted paths of files and folders in a folder ("" is the root)."""
    prefix = f"{folder}/" if folder else ""
    paths = {path for path in [*tree, *folders(tree)] if path.startswith(prefix)}
    return sorted(path for path in paths if recursive or "/" not in path.removeprefix(prefix))


def describe_commit(commit: Commit) -> dict[str, Any]:
    """Describe a commit as `commits` does."""
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author}],
        "date": stamp(commit.date),
    }


def describe_model(
    repo: Repo, commit: Commit, tree: Mapping[str, Entry], card: dict[str, Any], *, blobs: bool
) -> dict[str, Any]:
    """Describe a repository at a commit as `GET /api/models/{id}` does."""
    described = {
        "_id": repo.id,
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": stamp(commit.date),
        "createdAt": stamp(repo.created_at),
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags") or [],
        "siblings": [_sibling(path, entry, blobs=blobs) for path, entry in sorted(tree.items())],
        "spaces": [],
    }
    return described | ({"cardData": card} if card else {})


def stamp(date: datetime) -> str:
    """Spell a UTC time as JavaScript does."""
    return date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03d}Z"


def _sibling(path: str, entry: Entry, *, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if blobs:
        sibling |= {"size": entry.size, "blobId": entry.oid}
        if entry.sha256:
            pointer = len(lfs_pointer(entry.sha256, entry.size))
            sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": pointer}
    return sibling
