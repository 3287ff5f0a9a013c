"""Small safetensors files, written without any library; every value is finite and none is zero."""

from __future__ import annotations

import json
import random
import struct
from functools import cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# dtype and shape, and the bytes if they must be certain ones
Spec = tuple[str, tuple[int, ...]] | tuple[str, tuple[int, ...], bytes]

FROM_TORCH = {"format": "pt"}
_ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_FLOATS = {"F64": "d", "F32": "f", "F16": "e"}


def write_safetensors(
    path: Path, tensors: Mapping[str, Spec], metadata: Mapping[str, str] | None = FROM_TORCH
) -> None:
    """Write a valid file with as little as possible in it; the same arguments give the same bytes.

    Source: https://github.com/huggingface/safetensors#format. Like the library, widest dtypes come first,
    then names, and the header is padded to a multiple of 8 bytes.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    data = bytearray()
    for name in sorted(tensors, key=lambda name: (-_ITEM_BYTES[tensors[name][0]], name)):
        start = len(data)
        data += data_of(name, tensors[name])
        dtype, shape = tensors[name][:2]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def size_of(spec: Spec) -> int:
    """Bytes of a tensor's data."""
    return _ITEM_BYTES[spec[0]] * prod(spec[1])


def data_of(name: str, spec: Spec) -> bytes:
    """The bytes of a tensor, little-endian."""
    if len(spec) == 3:
        assert len(spec[2]) == size_of(spec), f"{name} holds {len(spec[2])} bytes, its shape {size_of(spec)}"
        return spec[2]
    return _noise(name, *spec)


@cache
def _noise(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Bytes that follow from the name alone: a tensor holds the same whichever file it stands in."""
    noise = random.Random(f"{name} {dtype} {shape}")
    count = prod(shape)
    if dtype in _FLOATS:
        return struct.pack(f"<{count}{_FLOATS[dtype]}", *_small(noise, count))
    if dtype == "BF16":
        wide = struct.pack(f"<{count}f", *_small(noise, count))
        return bytes(byte for at, byte in enumerate(wide) if at % 4 >= 2)
    if dtype == "BOOL":
        return b"\1" * count
    # 1 to 100 as an integer, and neither zero, infinite nor NaN as an 8-bit float
    return b"".join(noise.randint(1, 100).to_bytes(_ITEM_BYTES[dtype], "little") for _ in range(count))


def _small(noise: random.Random, count: int) -> list[float]:
    return [noise.choice((-1, 1)) * noise.uniform(0.01, 0.1) for _ in range(count)]
