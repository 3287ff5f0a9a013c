"""Whether a GGUF file is whole, told from all that stands before the data of its tensors.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; blocks from GGML_QUANT_SIZES in
gguf-py/gguf/constants.py of llama.cpp.
"""

from __future__ import annotations

import os
import struct
from math import prod
from typing import IO, TYPE_CHECKING

from agent.artifact.files import open_regular
from agent.artifact.findings import Finding
from agent.artifact.safetensors import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.artifact.files import LocalFile

_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 8  # GGML_MAX_DIMS is 4, the format leaves room for more
_MOST_ITEMS = 4_000_000  # a vocabulary of 260,000 tokens comes with 500,000 merges
_DEEPEST_ARRAY = 4
_LONGEST_TEXT_READ = 1 << 16

_UINT32, _STRING, _ARRAY = 4, 8, 9
_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# ggml_type: values in a block, bytes of it. F32, F16, I8 to I64, F64, BF16; Q4_0 to Q8_0; Q2_K to Q8_K;
# IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, IQ1_M; TQ1_0, TQ2_0, MXFP4.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2),
    2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 29: (256, 56), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


class _DamagedError(ValueError):
    """The message goes on after the file's path."""


def check_gguf(file: LocalFile) -> Iterator[Finding]:
    """Find a GGUF file that is cut short, or whose header no loader would take; the data is not read.

    Of a tensor whose type is unknown here only the beginning is checked.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(file.source) as stream:
        try:
            _Header(stream).check()
        except _DamagedError as error:
            hint = "Convert the model again; was the disk full, or the copy broken off?"
            yield Finding(file.path, "damaged", str(error), hint)


class _Header:
    """The header of an open file, read once from its beginning to its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        self._order = "<"
        self._alignment = _DEFAULT_ALIGNMENT
        self._items = 0

    def check(self) -> None:
        """Read all of it.

        Raises:
            _DamagedError: it is damaged, or promises more than the file holds.
        """
        if self._size == 0:
            raise _DamagedError("is empty")
        if self._read(4) != b"GGUF":
            raise _DamagedError("is no GGUF file: it does not begin with GGUF")
        self._check_version()
        tensors, pairs = self._number("Q"), self._number("Q")
        for _ in range(self._counted(pairs)):
            key, kind = self._text(), self._number("I")
            if key == b"general.alignment":
                self._set_alignment(kind)
            else:
                self._skip(kind)
        self._check_tensors([self._tensor() for _ in range(self._counted(tensors))])

    def _check_version(self) -> None:
        version = self._number("I")
        if version & 0xFFFF == 0:  # big-endian, as the format allows since version 3
            self._order = ">"
            version >>= 24
        if version not in _VERSIONS:
            raise _DamagedError(f"is GGUF of version {version:,}, which today's loaders do not read")

    def _set_alignment(self, kind: int) -> None:
        self._alignment = self._number("I") if kind == _UINT32 else 0
        if self._alignment.bit_count() != 1:
            raise _broken("general.alignment is no power of two")

    def _check_tensors(self, tensors: list[tuple[bytes, int, int]]) -> None:
        at = self._stream.tell()
        data = at + -at % self._alignment
        for name, offset, size in tensors:
            if offset % self._alignment:
                raise _broken(f"{_shown(name)} does not begin at a multiple of {self._alignment} bytes")
            end = data + offset + size
            if end > self._size:
                raise _DamagedError(
                    f"is cut short: {_shown(name)} ends at byte {end:,}, the file has {self._size:,}"
                )

    def _tensor(self) -> tuple[bytes, int, int]:
        """The name, the offset into the data, and the bytes; none if the type is unknown."""
        name, dimensions = self._text(), self._number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise _broken(f"{_shown(name)} has {dimensions:,} dimensions")
        shape = [self._number("Q") for _ in range(dimensions)]
        values, size = _BLOCKS.get(self._number("I"), (1, 0))
        count = prod(shape)
        if count >= 1 << 63:
            raise _broken(f"{_shown(name)} has more values than can be counted")
        if shape and shape[0] % values:
            raise _broken(f"the rows of {_shown(name)} are no multiple of {values} values")
        return name, self._number("Q"), count // values * size

    def _skip(self, kind: int, depth: int = 0) -> None:
        if kind == _STRING:
            self._pass(self._number("Q"))
        elif kind in _VALUE_BYTES:
            self._pass(_VALUE_BYTES[kind])
        elif kind == _ARRAY and depth < _DEEPEST_ARRAY:
            of, length = self._number("I"), self._number("Q")
            if of in _VALUE_BYTES:
                self._pass(length * _VALUE_BYTES[of])
            else:
                for _ in range(self._counted(length)):
                    self._skip(of, depth + 1)
        else:
            raise _broken(f"byte {self._stream.tell():,} follows a type that is unknown, or nested too deep")

    def _counted(self, items: int) -> int:
        """The number itself, if so many items may be there: each takes bytes, and our time."""
        if items > self._size - self._stream.tell():
            raise _DamagedError(
                f"is cut short: its header promises {items:,} more items than the file can hold"
            )
        self._items += items
        if self._items > _MOST_ITEMS:
            raise _DamagedError(f"has a header of more than {_MOST_ITEMS:,} items, too many to look through")
        return items

    def _number(self, code: str) -> int:
        number: int = struct.unpack(self._order + code, self._read(struct.calcsize(code)))[0]
        return number

    def _text(self) -> bytes:
        length = self._number("Q")
        if length > _LONGEST_TEXT_READ:
            raise _broken(f"a name in it has {length:,} bytes")
        return self._read(length)

    def _read(self, length: int) -> bytes:
        read = self._stream.read(length)
        if len(read) < length:
            raise _DamagedError(
                f"is cut short: its header ends beyond byte {self._size:,}, where the file ends"
            )
        return read

    def _pass(self, length: int) -> None:
        if length <= _LONGEST_TEXT_READ:
            self._read(length)
        elif length > self._size - self._stream.tell():
            raise _DamagedError(
                f"is cut short: its header ends beyond byte {self._size:,}, where the file ends"
            )
        else:
            self._stream.seek(length, os.SEEK_CUR)


def _broken(why: str) -> _DamagedError:
    return _DamagedError(f"has a damaged header: {why}")


def _shown(name: bytes) -> str:
    return listed([name.decode(errors="replace")])
