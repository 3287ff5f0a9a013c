"""Every byte of a commit, read back: what is handed out against what is listed, and against the witness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.hub.download import NotServedError
from agent.progress import meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.hub.download import Content, Served
    from agent.hub.repo import Entry


def read_back(
    content: Content, tree: Mapping[str, Entry], claimed: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield each file whose bytes are others, and how; nothing is kept of them.

    Args:
        content: hands out the files.
        tree: as the Hub lists them.
        claimed: by path, the sha256 that the witness names.

    Raises:
        HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
    """
    before = content.read_bytes
    with meter("reading back", sum(entry.size_bytes for entry in tree.values())) as shown:

        def moved() -> None:
            done = content.read_bytes - before
            shown.show(done, done)

        for path, entry in sorted(tree.items()):
            try:
                served = content.serve(entry, moved)
            except NotServedError as error:
                yield path, f"is listed, but cannot be downloaded: {error.message}"
                continue
            said = _unlike_listed(served, entry)
            if said:
                yield path, said
            elif claimed.get(path, served.sha256) != served.sha256:
                yield path, f"holds bytes of sha256 {served.sha256} instead of {claimed[path]}"


def _unlike_listed(served: Served, entry: Entry) -> str | None:
    if served.size_bytes > entry.size_bytes:
        return f"more can be downloaded than the {entry.size_bytes:,} bytes that are listed"
    if served.size_bytes < entry.size_bytes:
        return f"{served.size_bytes:,} bytes can be downloaded, {entry.size_bytes:,} are listed"
    if entry.sha256:
        theirs, listed = served.sha256, entry.sha256
    else:
        theirs, listed = served.blob_id, entry.oid
    return None if theirs == listed else f"the hash of its bytes is {theirs}, {listed} is listed"
