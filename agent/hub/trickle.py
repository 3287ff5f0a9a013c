"""One file into xet storage block by block, as slowly as whoever reads it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.hub import xet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.hub.repo import Repo


def send(repo: Repo, blocks: Iterable[bytes]) -> tuple[str, str, int]:
    """Bring a file to the repo's storage, unseen; its sha256, its xet hash, the bytes that travelled.

    Whatever ends the blocks early ends the upload. What was sent by then is not sent again.

    Raises:
        RemoteFailure: the storage did not take it.
        OSError: whoever makes the blocks could not read the file.
    """
    import hf_xet

    session = hf_xet.XetSession()
    try:
        group = session.new_upload_commit(**xet.access(repo))
        stream = group.start_upload_stream(sha256=hf_xet.COMPUTE_SHA256)
        for block in blocks:
            stream.write(block)
        info = stream.finish().xet_info
        group.wait_to_finish()
        return str(info.sha256), str(info.hash), int(group.progress().total_transfer_bytes_completed)
    except BaseException as error:
        session.sigint_abort()  # also what a file that vanished leaves half sent
        is_ours = isinstance(error, OSError) and error.filename
        if isinstance(error, OSError | RuntimeError | ValueError) and not is_ours:
            raise xet.as_failure(error) from error
        raise
