"""Whether an index and the shards beside it belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.artifact.files import read_json
from agent.artifact.findings import Finding
from agent.artifact.safetensors import listed

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from agent.artifact.files import LocalFile
    from agent.artifact.safetensors import Header

_LARGEST_INDEX = 100_000_000
_NUMBERED = re.compile(r"(?P<stem>.+)-\d{5,9}-of-(?P<total>\d{5,9})\.(?P<ending>safetensors|bin)")
_SAVE_AGAIN = "Save the model again, into an empty folder; was it saved twice, or a file moved?"


@dataclass(frozen=True)
class _Index:
    path: str
    weight_map: dict[str, str]  # from a tensor's name to its shard's path in the repo
    metadata: object

    @property
    def shards(self) -> list[str]:
        return list(dict.fromkeys(self.weight_map.values()))


def check_index(
    index: LocalFile, headers: Mapping[str, Header | None], present: Container[str]
) -> Iterator[Finding]:
    """Compare an index with the shards that it names; each kind of flaw is told once, with three examples.

    Args:
        index: names its shards relative to its own folder.
        headers: of the safetensors files, by path in the repo; None was told to be damaged already.
        present: paths of all files in the repo.

    Raises:
        OSError: the index cannot be read.
    """
    try:
        read = _read(index)
    except ValueError as error:
        yield Finding(index.path, "damaged", str(error), _SAVE_AGAIN)
        return
    if not isinstance(read.metadata, dict):
        # get_checkpoint_shard_files of transformers, and its twin in diffusers, read it unasked.
        hint = 'Add "metadata": {} to it; transformers and diffusers fail without.'
        yield Finding(index.path, "damaged", "has no metadata object", hint)
    missing = [path for path in read.shards if path not in present]
    if missing:
        message = f"names shards that are missing: {listed(missing)}"
        yield Finding(index.path, "shard-missing", message, _SAVE_AGAIN)
    readable = {path: header for path in read.shards if (header := headers.get(path))}
    yield from _compare_names(read, readable)
    if len(readable) == len(read.shards):
        yield from _compare_size(read, readable)


def strays(paths: Iterable[str], indexes: Sequence[LocalFile]) -> Iterator[Finding]:
    """Tell of numbered shards that no index names, sets of them with gaps, and indexes that are not read.

    Args:
        paths: of all files in the repo.
        indexes: those among them that are indexes.

    Raises:
        OSError: an index cannot be read.
    """
    present = set(paths)
    named: set[str] = set()
    unread = set()
    for index in indexes:
        try:
            named.update(_read(index).shards)
        except ValueError:  # check_index tells of it
            unread.add(_folder(index.path))
    for index in indexes:
        yield from _shadowed(index.path, present)
    sets: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in sorted(present | named):
        folder = _folder(path)
        numbered = _NUMBERED.fullmatch(path.removeprefix(folder))
        if numbered and folder not in unread:
            sets[folder, numbered["stem"], numbered["ending"], numbered["total"]].append(path)
    # Any index counts here: that of a variant is called model.safetensors.index.fp16.json.
    indexed = {_folder(path) for path in present if ".index." in path and path.endswith(".json")}
    for (folder, stem, ending, total), members in sets.items():
        here = [path for path in members if path in present]
        alone = folder not in indexed and f"{folder}{stem}.{ending}" not in present
        if here:
            gap = int(total) - len(members)
            yield from _check_set(here, gap, alone=alone, named=not named.isdisjoint(members))


def _shadowed(index: str, present: set[str]) -> Iterator[Finding]:
    single = index.removesuffix(".index.json")
    if single in present:
        message = f"and its shards are ignored by loaders: {single.removeprefix(_folder(single))} comes first"
        hint = "Remove the one that is not meant: the single file, or the index with its shards."
        yield Finding(index, "shadowed", message, hint, refuses="/" not in index)


def _check_set(here: list[str], gap: int, *, alone: bool, named: bool) -> Iterator[Finding]:
    if gap > 0 and (alone or named):
        message = f"belongs to shards of which, by their numbers, {gap:,} more must be there"
        yield Finding(here[0], "shard-missing", message, _SAVE_AGAIN)
    elif alone:
        message = f"is one of {len(here):,} shards, but no index is there to name them"
        hint = "Save the model again with save_pretrained, which writes the index after the shards."
        yield Finding(here[0], "index-missing", message, hint)
    elif not named:
        message = f"is one of {len(here):,} shards that no index names: nobody would load them"
        hint = "Remove them if an earlier save left them behind."
        yield Finding(here[0], "stray-shard", message, hint, refuses=False)


def _compare_names(index: _Index, headers: Mapping[str, Header]) -> Iterator[Finding]:
    holders: dict[str, list[str]] = defaultdict(list)
    for path, header in headers.items():
        for tensor in header.tensors:
            holders[tensor].append(path)
    absent = [
        tensor
        for tensor, path in index.weight_map.items()
        if path in headers and tensor not in headers[path].tensors
    ]
    unmapped = [tensor for tensor in holders if tensor not in index.weight_map]
    twice = [tensor for tensor, paths in holders.items() if len(paths) > 1]
    for tensors, where in (
        (absent, "not in the shard that is named for it"),
        (unmapped, "in a shard, but not in the weight_map"),
        (twice, "in more than one shard"),
    ):
        if tensors:
            count = "1 tensor is" if len(tensors) == 1 else f"{len(tensors):,} tensors are"
            message = f"does not fit its shards: {count} {where}: {listed(tensors)}"
            yield Finding(index.path, "index-mismatch", message, _SAVE_AGAIN)


def _compare_size(index: _Index, headers: Mapping[str, Header]) -> Iterator[Finding]:
    told = index.metadata.get("total_size") if isinstance(index.metadata, dict) else None
    size = sum(header.size_bytes - header.data_start for header in headers.values())
    if isinstance(told, int | float) and not isinstance(told, bool) and told != size:
        # More is not refused: of a tensor that is a view, huggingface_hub counts all the memory behind it.
        message = f"tells a total_size of {str(told)[:20]}, but the tensors have {size} bytes"
        hint = "Save the model again; was the index, or a shard, put there by hand?"
        yield Finding(index.path, "size-mismatch", message, hint, refuses=not told > size)


def _read(index: LocalFile) -> _Index:
    """Read and check an index by itself; ValueError's message goes on after its path."""
    document = read_json(index.source, _LARGEST_INDEX)
    weight_map = _weight_map(document)
    if not weight_map:
        raise ValueError("is damaged: it has no weight_map from tensors to shards")
    astray = [name for name in dict.fromkeys(weight_map.values()) if not _is_inside(name)]
    if astray:
        raise ValueError(f"names shards that are no files of its folder: {listed(astray)}")
    folder = _folder(index.path)
    paths = {tensor: folder + name for tensor, name in weight_map.items()}
    return _Index(index.path, paths, document.get("metadata"))


def _weight_map(document: object) -> dict[str, str] | None:
    found = document.get("weight_map") if isinstance(document, dict) else None
    return (
        found if isinstance(found, dict) and all(isinstance(name, str) for name in found.values()) else None
    )


def _is_inside(name: str) -> bool:
    return "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]
