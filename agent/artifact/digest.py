"""Hashes of local files, and the identity of a publication that follows from them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

from agent.artifact.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.artifact.files import LocalFile
    from agent.hashes import HashMemory

HASH_THREADS = 2


def sha256_of(file: LocalFile) -> str:
    """Return the sha256 of a file's bytes, in hex, by one sequential read."""
    with open_regular(file.source) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(
    files: Iterable[LocalFile], memory: HashMemory, moved: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Map each path to the sha256 of its file; what the memory still vouches for is not read again.

    `moved` is called after each of them.
    """
    files = list(files)
    found = {}

    def one(file: LocalFile) -> str:
        remembered = memory.recall(file.source, "sha256")
        if remembered:
            return remembered
        read = sha256_of(file)
        memory.keep(file.source, "sha256", read, file.stamp)
        return read

    with ThreadPoolExecutor(HASH_THREADS) as pool:
        for file, sha256 in zip(files, pool.map(one, files), strict=True):
            found[file.path] = sha256
            moved()
    return found


def content_id(sha256s: Mapping[str, str], *, repo_id: str, revision: str) -> str:
    """Name what is published where: sha256 over (path, sha256) of the user's files, repo and branch."""
    parts = [repo_id, revision, sorted(sha256s.items())]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def finalize_id(job_id: UUID, content: str) -> str:
    """Name one publication: this content, published for this job."""
    return hashlib.sha256(f"{job_id}{content}".encode()).hexdigest()


def local_job_id(content: str) -> UUID:
    """Give a job nobody named an id that the same content will get again."""
    return UUID(hex=content[:32])
