"""Safetensors files byte by byte, right and wrong ones, and what the official library says to them."""

from __future__ import annotations

import json
import re
from math import prod
from typing import TYPE_CHECKING, Any

import safetensors

from agent.artifact.files import LocalFile
from agent.artifact.safetensors import DamagedError, Header, Tensor, read_header
from agent.hashes import Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ITEM_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "F4": 4, "C64": 64,
}  # fmt: skip


def framed(header: bytes | Mapping[str, Any], data: bytes = b"") -> bytes:
    """Put the length before a header and the data behind it, whatever they hold."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def whole(tensors: Mapping[str, tuple[str, list[int], bytes | None]]) -> bytes:
    """Make a whole file of dtypes, shapes and data; None is as many zero bytes as it takes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, (dtype, shape, content) in tensors.items():
        begin = len(data)
        data += bytes(prod(shape) * ITEM_BITS[dtype] // 8) if content is None else content
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    return framed(header, bytes(data))


def header_of(shapes: Mapping[str, tuple[str, list[int]]]) -> Header:
    """The header of a file that nobody needs to write."""
    tensors, at = {}, 0
    for name, (dtype, shape) in shapes.items():
        end = at + prod(shape) * ITEM_BITS[dtype] // 8
        tensors[name] = Tensor(name, dtype, tuple(shape), at, end)
        at = end
    return Header(tensors, {"format": "pt"}, 8, 8 + at)


def local(source: Path, path: str | None = None) -> LocalFile:
    return LocalFile(path or source.name, source, Stamp.of(source))


def _starts_with_space(data: bytes) -> bool:
    return data[8:9].isspace()


def _has_a_name_twice(data: bytes) -> bool:
    twice = []

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.append(len(dict(pairs)) < len(pairs))
        return dict(pairs)

    json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=noted)
    return any(twice)


def _members(data: bytes) -> dict[str, Any]:
    members = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    members.pop("__metadata__", None)
    return members


def _has_more_than_a_tensor_needs(data: bytes) -> bool:
    return any(isinstance(entry, list) or len(entry) > 3 for entry in _members(data).values())


def _has_a_dtype_as_object(data: bytes) -> bool:
    return any(isinstance(entry["dtype"], dict) for entry in _members(data).values())


# What we refuse though the library does not: our words for it, and whether it is so. None of these is ever
# written by a library; the format's description rules out the first two, and does not know the others.
STRICTER: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    (r"does not begin with \{", _starts_with_space),
    ("occurs twice", _has_a_name_twice),
    ("has not just a dtype, a shape and data_offsets", _has_more_than_a_tensor_needs),
    ("is of no known dtype", _has_a_dtype_as_object),
    # A number in a key that the library skips may be of any kind.
    ("is no number of bytes or values", _has_more_than_a_tensor_needs),
)


# Dtype, shape and size of each tensor; or what is wrong.
Reading = dict[str, tuple[str, tuple[int, ...], int]] | str


def official(data: bytes) -> Reading:
    """What the official library reads."""
    try:
        found = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        return str(error)
    return {name: (view["dtype"], tuple(view["shape"]), len(view["data"])) for name, view in found}


def ours(data: bytes, scratch: Path) -> Reading:
    """What we read; the file is written to `scratch`."""
    scratch.write_bytes(data)
    try:
        found = read_header(scratch).tensors.values()
    except DamagedError as error:
        return str(error)
    return {tensor.name: (tensor.dtype, tensor.shape, tensor.end - tensor.begin) for tensor in found}


def difference(data: bytes, we: Reading, they: Reading) -> str | None:
    """How our reading differs from the official one beyond the reasons above; None if it does not."""
    if isinstance(we, str):
        why = [true for words, true in STRICTER if re.search(words, we)]
        return (
            None if isinstance(they, str) or any(true(data) for true in why) else f"only we refuse it: {we}"
        )
    if isinstance(they, str):
        return f"only we accept it: {they}"
    return None if we == they else f"we see {we}, the library {they}"


def disagreement(data: bytes, scratch: Path) -> str | None:
    """How the two readings of a file differ beyond the reasons above; None if they do not."""
    return difference(data, ours(data, scratch), official(data))
