"""Whether the files of a model are whole and belong together, told without reading the weights themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.artifact import names
from agent.artifact.adapter import check_adapter
from agent.artifact.documents import check_documents
from agent.artifact.findings import Finding
from agent.artifact.gguf import check_gguf
from agent.artifact.safetensors import DamagedError, Header, read_header
from agent.artifact.shards import check_index, strays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.artifact.files import LocalFile

_SAVE_AGAIN = "Save the model again; was the disk full, or the training stopped while it saved?"


@dataclass(frozen=True)
class Structure:
    """What is wrong with a model's files, and the header of each safetensors file that is not damaged."""

    findings: tuple[Finding, ...] = ()
    headers: dict[str, Header] = field(default_factory=dict)


def structure(files: Sequence[LocalFile]) -> Structure:
    """Check headers, indexes, adapters, GGUF files and the documents a loader reads.

    Raises:
        OSError: a file cannot be read.
    """
    headers: dict[str, Header | None] = {}
    findings = []
    for file in files:
        if file.path.endswith(".safetensors"):
            try:
                headers[file.path] = read_header(file.source)
            except DamagedError as error:
                headers[file.path] = None
                findings.append(Finding(file.path, "damaged", str(error), _SAVE_AGAIN))
        elif file.path.endswith(".gguf"):
            findings += check_gguf(file)
        elif names.is_weights(file.path) and file.size_bytes == 0:
            findings.append(Finding(file.path, "damaged", "is empty", _SAVE_AGAIN))
    findings += _shards(files, headers)
    findings += _adapters(files, headers)
    told = {finding.path for finding in findings}  # of an adapter's config the adapter's check said more
    findings += [finding for finding in check_documents(files) if finding.path not in told]
    return Structure(tuple(findings), {path: header for path, header in headers.items() if header})


def _shards(files: Sequence[LocalFile], headers: dict[str, Header | None]) -> Iterator[Finding]:
    present = {file.path for file in files}
    indexes = [file for file in files if names.is_index(file.path)]
    for index in indexes:
        yield from check_index(index, headers, present)
    yield from strays(present, indexes)


def _adapters(files: Sequence[LocalFile], headers: dict[str, Header | None]) -> Iterator[Finding]:
    by_path = {file.path: file for file in files}
    folders = {path.rpartition("/")[0] for path in by_path if names.is_adapter_file(path)}
    for folder in sorted(folders):
        prefix = f"{folder}/" if folder else ""
        weights = next(
            (by_path[prefix + name] for name in names.ADAPTER_WEIGHTS if prefix + name in by_path), None
        )
        header = headers.get(weights.path) if weights else None
        yield from check_adapter(by_path.get(f"{prefix}adapter_config.json"), weights, header, folder)
