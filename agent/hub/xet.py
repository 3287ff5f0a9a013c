"""Uploading by xet: one read pass that chunks, deduplicates, hashes and sends.

Driven through hf_xet itself instead of `preupload_lfs_files`, which shows progress to a terminal only
and keeps the content hashes to itself.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from huggingface_hub import constants

from agent.errors import Interrupted
from agent.retry import OUT_OF_PATIENCE, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.hub.repo import Repo

_WATCH_EVERY_S = 1.0


class Shown(Protocol):
    """Where progress is shown."""

    def show(self, done_bytes: int, sent_bytes: int) -> None:
        """Tell the bytes done, and those that travelled."""
        ...


def available() -> bool:
    """Whether hf_xet is installed and not switched off by HF_HUB_DISABLE_XET."""
    return find_spec("hf_xet") is not None and not constants.HF_HUB_DISABLE_XET


def hash_file(path: Path) -> str:
    """Return the xet content hash of a file by reading it here, without any server."""
    import hf_xet

    return str(hf_xet.hash_files([str(path)])[0].hash)


def hash_bytes(content: bytes) -> str:
    """Return the xet content hash of bytes, without any server."""
    with tempfile.NamedTemporaryFile() as copy:  # hf_xet hashes files only
        copy.write(content)
        copy.flush()
        return hash_file(Path(copy.name))


def access(repo: Repo) -> dict[str, Any]:
    """What hf_xet needs to know to write into the storage of a repo."""
    client, branch = repo.client, quote(repo.branch, safe="")
    return {
        "token_refresh_url": f"{client.endpoint}/api/models/{repo.repo_id}/xet-write-token/{branch}",
        "token_refresh_headers": client.headers,
        # Storage has a short-lived token of its own; the Hub's must not reach another host.
        "custom_headers": {k: v for k, v in client.headers.items() if k.lower() != "authorization"},
    }


class Upload:
    """One attempt to bring files into xet storage; `sent_bytes` tells what travelled, even if it failed."""

    def __init__(self, repo: Repo, shown: Shown) -> None:
        self._patience, self._shown = repo.client.patience, shown
        self._access = access(repo)
        self.sent_bytes = 0
        self._done_bytes = 0

    def run(
        self,
        files: Sequence[tuple[bytes | Path, str | None]],
        meanwhile: Callable[[], Sequence[tuple[bytes | Path, str | None]]] = tuple,
    ) -> list[tuple[str, str]]:
        """Upload all files and return (sha256, xet hash) of each, in order.

        Args:
            files: bytes or path, with the sha256 if it is known.
            meanwhile: called when these are on their way: more of them.

        Raises:
            RemoteFailure: the storage did not take them, or nothing moved for too long.
        """
        import hf_xet

        session = hf_xet.XetSession()
        stalled = threading.Event()
        finished = threading.Event()
        try:
            group = session.new_upload_commit(**self._access, progress_callback=self._on_progress)
            watch = threading.Thread(target=self._watch, args=(group, finished, stalled), daemon=True)
            watch.start()
            handles = [self._start(group, source, sha256) for source, sha256 in files]
            handles += [self._start(group, source, sha256) for source, sha256 in meanwhile()]
            group.wait_to_finish()
            self._on_progress(group.progress(), {})
            return [_hashes(handle.result().xet_info) for handle in handles]
        except (KeyboardInterrupt, Interrupted):
            session.sigint_abort()
            raise
        except OSError as error:
            if isinstance(error.filename, str | os.PathLike):
                raise
            raise as_failure(error, stalled=stalled.is_set()) from error
        except (RuntimeError, ValueError) as error:
            raise as_failure(error, stalled=stalled.is_set()) from error
        finally:
            finished.set()

    @staticmethod
    def _start(group: Any, source: bytes | Path, sha256: str | None) -> Any:  # noqa: ANN401 - hf_xet has no types
        import hf_xet

        wanted = sha256 or hf_xet.COMPUTE_SHA256
        if isinstance(source, Path):
            return group.start_upload_file(str(source), sha256=wanted)
        return group.start_upload_bytes(source, sha256=wanted)

    def _on_progress(self, group: Any, items: Any) -> None:  # noqa: ANN401, ARG002 - hf_xet has no types
        sent, done = group.total_transfer_bytes_completed, group.total_bytes_completed
        if sent > self.sent_bytes or done > self._done_bytes:
            self.sent_bytes, self._done_bytes = sent, done
            self._patience.progress()
            self._shown.show(done, sent)

    def _watch(self, group: Any, finished: threading.Event, stalled: threading.Event) -> None:  # noqa: ANN401
        """End the upload when patience runs out: hf_xet itself waits far longer on a silent server."""
        while not finished.wait(_WATCH_EVERY_S):
            if self._patience.attempt_left_s() <= 0:
                stalled.set()
                group.abort()
                return


def _hashes(info: Any) -> tuple[str, str]:  # noqa: ANN401 - hf_xet has no types
    return str(info.sha256), str(info.hash)


def as_failure(error: Exception, *, stalled: bool = False) -> RemoteFailure:
    """What hf_xet raised, as one failed call; `stalled` if it was ended because nothing moved."""
    if stalled:
        return RemoteFailure(OUT_OF_PATIENCE, status=None)
    words = " ".join(str(error).split())
    # hf_xet tells the status in its text only: "… (404 Not Found), domain: …".
    status = re.search(r"\((\d{3}) [A-Z]", words)
    return RemoteFailure(f"xet storage: {words}", status=int(status[1]) if status else None)
