"""The header of a safetensors file, read strictly: what the file holds, and whether it is whole.

Source: https://github.com/huggingface/safetensors#format. A file that is accepted here is accepted by the
official library (0.8.0). Some headers that the library lets pass are refused here, because the format does
not know them and other readers stumble: space before the header, names that occur twice, further keys of a
tensor, a list in place of a tensor's object, an object in place of a dtype's name.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from agent.artifact.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from io import BufferedReader
    from pathlib import Path

_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000  # the official limit
_LARGEST_COUNT = 2**64 - 1  # what the official readers count with
_COUNT_DIGITS = 20
_KEYS = {"dtype", "shape", "data_offsets"}
_LISTED = 3
_SHOWN = 100


class DamagedError(ValueError):
    """The file is not whole; the message goes on after its path."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its values are the bytes from `begin` to `end`, counted from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a whole file says of itself; the tensors come in the order of their data.

    The data begins `data_start` bytes into the file, which is `size_bytes` long.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    data_start: int
    size_bytes: int


def read_header(source: Path) -> Header:
    """Read and check the header alone; whether the data is all there follows from the file's size.

    Raises:
        DamagedError: the file is cut short, too long, never written, or no safetensors file.
        OSError: it cannot be read.
    """
    with open_regular(source) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        raw = _raw_header(stream, size_bytes)
    members = _parse(raw)
    metadata = _metadata(members.pop("__metadata__", None))
    tensors = _laid_out([_tensor(name, entry) for name, entry in members.items()])
    _check_encodable([*tensors, *metadata, *metadata.values()])
    data_start = _LENGTH_BYTES + len(raw)
    promised = data_start + (next(reversed(tensors.values())).end if tensors else 0)
    if size_bytes != promised:
        what = "is cut short" if size_bytes < promised else "is longer than it should be"
        raise DamagedError(
            f"{what}: its header promises {promised:,} bytes in all, the file has {size_bytes:,}"
        )
    return Header(tensors, metadata, data_start, size_bytes)


def quoted(name: str) -> str:
    """A name from a file's hands, for a message: short, on one line, in ASCII."""
    return json.dumps(name[:_SHOWN])


def listed(names: Collection[str], show: Callable[[str], str] = quoted) -> str:
    """The first three names and how many more there are."""
    first = [show(name) for name in islice(names, _LISTED)]
    more = len(names) - len(first)
    return ", ".join(first) + (f", … and {more:,} more" if more else "")


def _raw_header(stream: BufferedReader, size_bytes: int) -> bytes:
    if size_bytes == 0:
        raise DamagedError("is empty")
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        raise DamagedError(f"is cut short: it has {len(head)} of the 8 bytes that tell its header's length")
    length = int.from_bytes(head, "little")
    if length == 0:
        raise DamagedError("begins with zeros: it was given its size, but its header was never written")
    if length > _LARGEST_HEADER:
        raise DamagedError(
            f"is no safetensors file, or its start is damaged: a header of {length:,} bytes "
            f"is longer than the {_LARGEST_HEADER:,} that are allowed"
        )
    raw = stream.read(min(length, size_bytes))
    if len(raw) < length:
        raise DamagedError(
            f"is cut short: its header ends at byte {_LENGTH_BYTES + length:,}, the file has {size_bytes:,}"
        )
    if not any(raw):
        raise DamagedError("has zeros for a header: it was given its size, but not written to the end")
    if not raw.startswith(b"{"):
        raise _header_damaged("it does not begin with {")
    return raw


def _parse(raw: bytes) -> dict[str, Any]:
    """The JSON of the header: an object, for it begins as one."""
    try:
        members: dict[str, Any] = json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_int=_count,
            parse_float=_no_count,
            parse_constant=_no_count,
        )
    except DamagedError:
        raise
    except UnicodeDecodeError as error:
        raise _header_damaged(f"byte {error.start:,} is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise _header_damaged(f"no JSON at character {error.pos:,}: {error.msg}") from error
    except RecursionError as error:
        raise _header_damaged("nested too deep") from error
    return members


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _header_damaged(f"{quoted(name)} occurs twice")
    return members


def _count(digits: str) -> int:
    # int() is slow with a million digits, and then refuses them.
    if digits[0] == "-" or len(digits) > _COUNT_DIGITS:
        return _no_count(digits)
    number = int(digits)
    return number if number <= _LARGEST_COUNT else _no_count(digits)


def _no_count(digits: str) -> int:
    raise _header_damaged(f"{digits[:_COUNT_DIGITS]} is no number of bytes or values")


def _metadata(found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(type(value) is str for value in found.values()):
        raise _header_damaged("its __metadata__ is more than names and texts")
    return found


def _tensor(name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise _header_damaged(f"{quoted(name)} has not just a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise _header_damaged(f"{quoted(name)} is of no known dtype")
    if not _are_counts(shape):
        raise _header_damaged(f"the shape of {quoted(name)} is no list of sizes")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - begin, end
        raise _header_damaged(f"the data_offsets of {quoted(name)} are not where it begins and ends")
    begin, end = offsets
    if _size_bits(shape, bits) != (end - begin) * 8:
        raise _header_damaged(
            f"{quoted(name)} is {dtype} of shape {str(shape)[:_SHOWN]}, but has {end - begin:,} bytes"
        )
    return Tensor(name, dtype, tuple(shape), begin, end)


def _are_counts(found: object) -> bool:
    return type(found) is list and all(type(number) is int for number in found)


def _size_bits(shape: list[int], bits: int) -> int | None:
    """Size of a tensor; None if the official readers, which go from left to right, overflow on the way."""
    size = 1
    for length in shape:
        size *= length
        if size > _LARGEST_COUNT:
            return None
    return size * bits if size * bits <= _LARGEST_COUNT else None


def _laid_out(tensors: list[Tensor]) -> dict[str, Tensor]:
    """The tensors in the order of their data, which must follow each other without gap or overlap."""
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            what = "a gap lies before" if tensor.begin > at else "another tensor overlaps"
            raise _header_damaged(f"{what} {quoted(tensor.name)}, at byte {tensor.begin:,} of the data")
        at = tensor.end
    return {tensor.name: tensor for tensor in tensors}


def _check_encodable(texts: list[str]) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise _header_damaged("a name in it holds half a character (a lone surrogate)") from error


def _header_damaged(why: str) -> DamagedError:
    return DamagedError(f"has a damaged header: {why}")
