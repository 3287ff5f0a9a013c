"""A repo as a folder of holes: whether its files are whole and belong together, told without a download.

A safetensors file is as long as its header promises, or it is cut. So the header of each, the indexes and the
configs are read, as a rule by one request each, and laid into a folder of empty files of the listed sizes.
There the checks that judge an output folder judge them. It needs no manifest, and asks for nothing else.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent.artifact import Finding, LocalFile, names
from agent.artifact.adapter import check_adapter
from agent.artifact.documents import check_documents
from agent.artifact.findings import WHOLE_FOLDER
from agent.artifact.safetensors import DamagedError, Header, read_header
from agent.artifact.shards import check_index, strays
from agent.hashes import Stamp
from agent.hub.download import LARGEST_DOCUMENT, NotServedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.hub.download import Content
    from agent.hub.repo import Entry

_CONFIGS = {"config.json", "generation_config.json", "adapter_config.json", "model_index.json"}
_LENGTH_BYTES = 8
_FIRST_BYTES = 1 << 17  # holds the header of most files, so that one request is enough
_LARGEST_HEADER = 16_000_000
_MOST_FILES = 500  # one request after the other


def check_outline(
    content: Content, tree: Mapping[str, Entry], is_judged: Callable[[str], bool]
) -> list[Finding]:
    """Find what is cut, missing or contradictory in a repo, told from headers and small documents.

    Args:
        content: hands out the files.
        tree: as the Hub lists them.
        is_judged: whether a path belongs to the model; other people's files are not read.

    Raises:
        HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="training-agent-outline-") as folder:
            outline = _Outline(content, tree, Path(folder))
            return list(outline.check([path for path in sorted(tree) if is_judged(path)]))
    except OSError as error:
        said = f"whether the files are whole was not looked at: {error.strerror or error}"
        hint = "Set TMPDIR to a folder that can be written, or run with --download."
        return [Finding(WHOLE_FOLDER, "not-looked-at", said, hint, refuses=False)]


class _Outline:
    def __init__(self, content: Content, tree: Mapping[str, Entry], folder: Path) -> None:
        self._content, self._tree, self._folder = content, tree, folder
        self._laid_out: dict[str, LocalFile] = {}
        self._headers: dict[str, Header | None] = {}

    def check(self, paths: list[str]) -> Iterator[Finding]:
        weights = [path for path in paths if path.endswith(".safetensors")]
        documents = [path for path in paths if _is_document(path)]
        read = [*documents, *weights][:_MOST_FILES]
        if len(read) < len(documents) + len(weights):
            said = f"has more weights than the {_MOST_FILES:,} files whose beginnings are looked at"
            yield Finding(WHOLE_FOLDER, "not-looked-at", said, "Run with --download.", refuses=False)
        for path in read:
            try:
                yield from self._read_document(path) if _is_document(path) else self._read_header(path)
            except NotServedError as error:
                said = f"is listed, but cannot be read: {error.message}"
                yield Finding(path, "not-served", said, "")
        indexes = [file for path, file in self._laid_out.items() if names.is_index(path)]
        for index in indexes:
            yield from check_index(index, self._headers, self._tree)
        yield from strays(paths, indexes)
        yield from self._adapters(paths)
        yield from check_documents([self._laid_out[path] for path in documents if path in self._laid_out])

    def _read_document(self, path: str) -> Iterator[Finding]:
        size = self._tree[path].size_bytes
        if size > LARGEST_DOCUMENT:
            yield Finding(path, "not-looked-at", f"has {size:,} bytes and was not read", "", refuses=False)
            return
        found = self._content.document(self._tree[path])
        self._lay_out(path, found, len(found))

    def _read_header(self, path: str) -> Iterator[Finding]:
        size = self._tree[path].size_bytes
        head = self._content.start(path, min(size, _FIRST_BYTES))
        end = _LENGTH_BYTES + int.from_bytes(head[:_LENGTH_BYTES], "little")
        if _LARGEST_HEADER < end <= size:
            said = f"has a header of {end:,} bytes, which was not read"
            yield Finding(path, "not-looked-at", said, "Run with --download.", refuses=False)
            return
        if len(head) < end <= size:
            head = self._content.start(path, end)
        try:
            self._headers[path] = read_header(self._lay_out(path, head, size).source)
        except DamagedError as error:
            self._headers[path] = None
            yield Finding(path, "damaged", str(error), "")

    def _lay_out(self, path: str, begin: bytes, size_bytes: int) -> LocalFile:
        """A file that has these first bytes and holes behind them."""
        source = self._folder / str(len(self._laid_out))
        source.write_bytes(begin[:size_bytes])
        os.truncate(source, size_bytes)
        file = self._laid_out[path] = LocalFile(path, source, Stamp.of(source))
        return file

    def _adapters(self, paths: list[str]) -> Iterator[Finding]:
        for folder in sorted({path.rpartition("/")[0] for path in paths if names.is_adapter_file(path)}):
            prefix = f"{folder}/" if folder else ""
            config = prefix + names.ADAPTER_CONFIG
            if config in self._tree and config not in self._laid_out:
                continue  # it could not be read, which was told
            there = [prefix + name for name in names.ADAPTER_WEIGHTS if prefix + name in self._tree]
            weights = self._laid_out.get(there[0]) or self._lay_out(there[0], b"", 0) if there else None
            header = self._headers.get(weights.path) if weights else None
            yield from check_adapter(self._laid_out.get(config), weights, header, folder)


def _is_document(path: str) -> bool:
    return names.is_index(path) or path.rpartition("/")[2] in _CONFIGS
