"""Uploading by plain Git LFS, for networks that do not reach xet storage.

An open binary file makes huggingface_hub take this path without touching a private switch; its
sha256 is computed first, and the storage refuses bytes that do not match it.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.hub.repo import Repo
    from agent.hub.xet import Shown


class Upload:
    """One attempt to bring files into LFS storage; `sent_bytes` tells what travelled."""

    def __init__(self, repo: Repo, shown: Shown) -> None:
        self._repo, self._shown = repo, shown
        self._lock = threading.Lock()
        self.sent_bytes = 0
        self._hashing = True

    def run(self, files: Sequence[tuple[str, bytes | Path]]) -> list[str]:
        """Upload all files and return the sha256 of each, in order; what storage has is not sent again."""
        streams = [self._open(source) for _, source in files]
        try:
            self._hashing = True
            added = [
                CommitOperationAdd(path_in_repo=path, path_or_fileobj=stream)
                for (path, _), stream in zip(files, streams, strict=True)
            ]
            self._hashing = False
            self._repo.client.api.preupload_lfs_files(
                self._repo.repo_id, added, revision=self._repo.branch, free_memory=False
            )
        finally:
            for stream in streams:
                stream.close()
        return [operation.upload_info.sha256.hex() for operation in added]

    def _open(self, source: bytes | Path) -> io.BufferedReader:
        raw = source.open("rb", buffering=0) if isinstance(source, Path) else io.BytesIO(source)
        return _Counted(raw, self._on_read)  # type: ignore[arg-type] # BytesIO reads like a raw file

    def _on_read(self, count: int) -> None:
        self._repo.client.patience.progress()
        if not self._hashing:
            with self._lock:
                self.sent_bytes += count
                self._shown.show(self.sent_bytes, self.sent_bytes)


class _Counted(io.BufferedReader):
    """A buffered file that tells how much is read from it."""

    def __init__(self, raw: io.RawIOBase, on_read: Callable[[int], None]) -> None:
        super().__init__(raw)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        """Read and tell."""
        found = super().read(size)
        self._on_read(len(found))
        return found
