"""Whether weights are numbers: a training that diverged leaves NaN and Inf behind."""

from __future__ import annotations

import errno
import os
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NamedTuple

from agent.artifact.files import open_regular
from agent.artifact.findings import Finding
from agent.artifact.safetensors import listed, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from io import BufferedReader

    from agent.artifact.files import LocalFile
    from agent.artifact.safetensors import Header

_SAMPLE_BYTES = 64_000_000
_SAMPLE_S_PER_GB = 1.0
_SMALLEST_READ = 4096
_LARGEST_READ = 4_000_000
_PLACES = 3  # begin, middle and end of a tensor
_HINT = (
    "The training diverged: publish an earlier checkpoint. "
    "AGENT_CHECK_WEIGHTS=headers publishes this one all the same."
)


@dataclass(frozen=True)
class _Format:
    """How a dtype writes what is no number, in words of some bytes.

    Without its sign bit a word is Inf if it is `infinity`, and NaN from `nan` on; without `signed`, only the
    word `nan` itself is.
    """

    word_bytes: int
    nan: int
    infinity: int | None = None
    signed: bool = True


# Sources: IEEE 754; https://arxiv.org/abs/2209.05433 for F8 (E4M3 has no Inf), https://arxiv.org/abs/2206.02915
# for FNUZ (one NaN, where -0 would be), OCP microscaling formats 1.0 for E8M0.
_FORMATS = {
    "F64": _Format(8, (0x7FF << 52) + 1, 0x7FF << 52),
    "F32": _Format(4, 0x7F80_0001, 0x7F80_0000),
    "C64": _Format(4, 0x7F80_0001, 0x7F80_0000),  # two F32
    "BF16": _Format(2, 0x7F81, 0x7F80),
    "F16": _Format(2, 0x7C01, 0x7C00),
    "F8_E5M2": _Format(1, 0x7D, 0x7C),
    "F8_E4M3": _Format(1, 0x7F),
    "F8_E4M3FNUZ": _Format(1, 0x80, signed=False),
    "F8_E5M2FNUZ": _Format(1, 0x80, signed=False),
    "F8_E8M0": _Format(1, 0xFF, signed=False),
}


@dataclass(frozen=True)
class Looked:
    """How much was looked at; only tensors of floats that hold values count."""

    bytes_read: int
    tensors_seen: int
    tensors_total: int


@dataclass(slots=True)
class _Weight:
    """One tensor of floats, and what was seen of its values."""

    file: LocalFile
    name: str
    form: _Format
    begin: int  # in the file
    size: int
    values: int = 0
    nan: int = 0
    inf: int = 0


class _Piece(NamedTuple):
    """Bytes of a tensor that are read at once; `begin` counts from the start of the file."""

    weight: _Weight
    begin: int
    size: int


def check_numbers(
    files: Sequence[tuple[LocalFile, Header]],
    mode: Literal["sample", "full"],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Finding], Looked]:
    """Look for NaN and Inf: in 64 MB spread over all tensors (`sample`), or in every float (`full`).

    A sample ends after a second per GB of model, or one second if that is more. Inf in a mask is meant.

    Raises:
        OSError: a file cannot be read, or is shorter than its header promised.
    """
    weights = [
        _Weight(file, tensor.name, form, header.data_start + tensor.begin, tensor.end - tensor.begin)
        for file, header in files
        for tensor in header.tensors.values()
        if (form := _FORMATS.get(tensor.dtype)) and tensor.end > tensor.begin
    ]
    if mode == "full":
        bytes_read = _look((piece for weight in weights for piece in _whole(weight, _LARGEST_READ)), _count)
    else:
        gigabytes = sum(header.size_bytes for _, header in files) / 1e9
        until = clock() + max(1.0, gigabytes * _SAMPLE_S_PER_GB)
        bytes_read = _look(takewhile(lambda _: clock() < until, _sample(weights)), _count_if_any)
    seen = sum(weight.values > 0 for weight in weights)
    return _findings(weights), Looked(bytes_read, seen, len(weights))


def _findings(weights: list[_Weight]) -> list[Finding]:
    wrong: dict[str, list[str]] = defaultdict(list)
    for weight in weights:
        inf = 0 if "mask" in weight.name else weight.inf
        what = " and ".join(
            f"{count:,} {kind}" for count, kind in ((weight.nan, "NaN"), (inf, "Inf")) if count
        )
        if what:
            sentence = f"{quoted(weight.name)} ({what} of {weight.values:,} values looked at)"
            wrong[weight.file.path].append(sentence)
    return [
        Finding(path, "not-finite", f"has weights that are no numbers: {listed(sentences, str)}", _HINT)
        for path, sentences in wrong.items()
    ]


def _whole(weight: _Weight, largest: int) -> Iterator[_Piece]:
    for at in range(0, weight.size, largest):
        yield _Piece(weight, weight.begin + at, min(largest, weight.size - at))


def _sample(weights: list[_Weight]) -> Iterator[_Piece]:
    """The same pieces every time: of every tensor, or of evenly spaced ones if there are very many."""
    count = min(len(weights), _SAMPLE_BYTES // _SMALLEST_READ)
    if not count:
        return
    pages = _SAMPLE_BYTES // count // _SMALLEST_READ
    places = min(_PLACES, pages)
    size = min(pages // places * _SMALLEST_READ, _LARGEST_READ)
    for nth in range(count):
        weight = weights[nth * len(weights) // count]
        if weight.size <= places * size:
            yield from _whole(weight, size)
            continue
        for place in range(places):
            at = (weight.size - size) * place // max(1, places - 1)
            yield _Piece(weight, weight.begin + at - at % weight.form.word_bytes, size)


def _look(pieces: Iterable[_Piece], count: Callable[[memoryview, _Format], tuple[int, int]]) -> int:
    """Read pieces, tell their tensors what was seen, and return the number of bytes."""
    buffer = memoryview(bytearray(_LARGEST_READ))
    bytes_read = 0
    with ExitStack() as opened:
        file, stream = None, None
        for weight, begin, size in pieces:
            if stream is None or weight.file is not file:
                opened.close()
                file, stream = weight.file, opened.enter_context(open_regular(weight.file.source))
            raw = buffer[:size]
            if _read(stream, begin, raw) < size:
                raise OSError(errno.EIO, "it is shorter than its header promises", str(file.source))
            nan, inf = count(raw, weight.form)
            weight.values += size // weight.form.word_bytes
            weight.nan += nan
            weight.inf += inf
            bytes_read += size
    return bytes_read


def _read(stream: BufferedReader, begin: int, into: memoryview) -> int:
    done = 0
    while done < len(into):
        got = os.preadv(stream.fileno(), [into[done:]], begin + done)
        if got == 0:
            break
        done += got
    return done


def _count_if_any(raw: memoryview, form: _Format) -> tuple[int, int]:
    """As `_count`; for a sample of sound weights, loading numpy would take longer than looking at them."""
    if form.signed:
        least = form.nan if form.infinity is None else form.infinity
        highest = bytes(raw)[form.word_bytes - 1 :: form.word_bytes]
        if b"!" not in highest.translate(_marks_from(least >> 8 * (form.word_bytes - 1))):
            return 0, 0
    return _count(raw, form)


@cache
def _marks_from(least: int) -> bytes:
    """A table that marks bytes from `least` on, their sign aside."""
    return bytes(ord("!") if byte & 0x7F >= least else ord(".") for byte in range(256))


def _count(raw: memoryview, form: _Format) -> tuple[int, int]:
    """Count NaN and Inf in bytes."""
    import numpy as np

    words = np.frombuffer(raw, f"<u{form.word_bytes}")
    if not form.signed:
        return int(np.count_nonzero(words == form.nan)), 0
    sign = 1 << (8 * form.word_bytes - 1)
    least = form.nan if form.infinity is None else form.infinity
    # Read as signed the greatest word is the greatest positive one, read as unsigned the least negative one.
    if int(words.view(f"<i{form.word_bytes}").max()) < least and int(words.max()) < sign + least:
        return 0, 0
    unsigned = words & (sign - 1)
    infinite = 0 if form.infinity is None else int(np.count_nonzero(unsigned == form.infinity))
    return int(np.count_nonzero(unsigned >= form.nan)), infinite
