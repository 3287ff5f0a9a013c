"""Which small files are worth a search of their own: most have nothing in them that a credential begins with.

Opening a search for each of a hundred thousand small files takes far longer than looking at all of them at
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.artifact.credentials import may_hold_credentials
from agent.artifact.files import small_contents
from agent.artifact.zips import ZIP_MAGIC

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from agent.artifact.files import LocalFile

_SMALL = 64 << 10
_TOGETHER = 256 << 10
_PACKED = (ZIP_MAGIC, b"\x1f\x8b")


def suspects(files: Sequence[LocalFile], known: Collection[bytes]) -> Iterator[LocalFile]:
    """The files, in their order, without those that certainly hold no credential, nor one in their path.

    Args:
        files: any files.
        known: secrets to be found whatever they look like.

    Raises:
        OSError: a file cannot be read.
    """
    batch: list[tuple[LocalFile, bytes | None]] = []
    size = 0
    for file, content in small_contents(files, _SMALL):
        text = None if content is None else _text(file.path, content)
        batch.append((file, text))
        size += len(text or b"")
        if size >= _TOGETHER:
            yield from _among(batch, known)
            batch, size = [], 0
    yield from _among(batch, known)


def _text(path: str, content: bytes) -> bytes | None:
    """What there is to be searched, if it can be searched as it is."""
    if b"\0" in content or content.startswith(_PACKED):
        return None
    return b"%b\n%b" % (path.encode(), content)


def _among(batch: list[tuple[LocalFile, bytes | None]], known: Collection[bytes]) -> Iterator[LocalFile]:
    clear = not _suspicious(b"\n".join(text for _, text in batch if text is not None), known)
    for file, text in batch:
        if text is None or (not clear and _suspicious(text, known)):
            yield file


def _suspicious(data: bytes, known: Collection[bytes]) -> bool:
    return any(secret in data for secret in known) or may_hold_credentials(data)
