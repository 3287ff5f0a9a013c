"""GGUF files byte by byte, right and wrong ones."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact.files import LocalFile
from agent.artifact.gguf import check_gguf
from agent.hashes import Stamp
from tests.layouts.gguf import write_llama_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UINT32, BOOL, STRING, ARRAY, UINT64 = 4, 7, 8, 9, 10
F32, F16, Q4_0, Q8_0, Q6_K, IQ4_XS, BF16, UNKNOWN = 0, 1, 2, 8, 14, 23, 30, 99


@pytest.fixture
def wrong(tmp_path: Path) -> Callable[[bytes], str | None]:
    """What is found to be wrong with a file of this content."""

    def check(content: bytes) -> str | None:
        source = tmp_path / "model.gguf"
        source.write_bytes(content)
        findings = list(check_gguf(LocalFile("model.gguf", source, Stamp.of(source))))
        assert all((one.path, one.kind, one.refuses) == ("model.gguf", "damaged", True) for one in findings)
        assert len(findings) < 2
        return findings[0].message if findings else None

    return check


class Writer:
    """Writes a GGUF file with one tensor after the other."""

    def __init__(self, order: str = "<", version: int = 3) -> None:
        self.order, self.version = order, version
        self.pairs: list[bytes] = []
        self.tensors: list[bytes] = []
        self.data = b""

    def pack(self, code: str, *numbers: int) -> bytes:
        return struct.pack(self.order + code, *numbers)

    def text(self, text: str) -> bytes:
        return self.pack("Q", len(text.encode())) + text.encode()

    def pair(self, key: str, kind: int, value: bytes) -> Writer:
        self.pairs.append(self.text(key) + self.pack("I", kind) + value)
        return self

    def texts(self, *texts: str) -> bytes:
        return self.pack("IQ", STRING, len(texts)) + b"".join(map(self.text, texts))

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, size: int, alignment: int = 32) -> Writer:
        self.data += bytes(-len(self.data) % alignment)
        dimensions = self.pack(f"I{len(shape)}Q", len(shape), *shape)
        self.tensors.append(self.text(name) + dimensions + self.pack("IQ", kind, len(self.data)))
        self.data += b"\x01" * size
        return self

    def write(self, alignment: int = 32) -> bytes:
        head = b"GGUF" + self.pack("IQQ", self.version, len(self.tensors), len(self.pairs))
        head += b"".join(self.pairs + self.tensors)
        return head + (bytes(-len(head) % alignment) + self.data if self.data else b"")


def usual(**layout: object) -> Writer:
    made = Writer(**layout)  # type: ignore[arg-type]
    made.pair("general.architecture", STRING, made.text("llama"))
    made.pair("general.alignment", UINT32, made.pack("I", 32))
    made.pair("tokenizer.ggml.tokens", ARRAY, made.texts("<s>", "é", ""))
    made.pair("tokenizer.ggml.scores", ARRAY, made.pack("IQ3I", 6, 3, 0, 0, 0))
    made.pair("tokenizer.ggml.add_bos_token", BOOL, b"\1")
    return made.tensor("token_embd.weight", (64, 3), Q8_0, 204).tensor("output_norm.weight", (64,), F32, 256)


WHOLE = usual().write()


def test_a_whole_file_is_clean(wrong):
    assert wrong(WHOLE) is None


def test_the_file_of_a_converter_is_clean(wrong, tmp_path):
    write_llama_gguf(tmp_path / "made.gguf")
    assert wrong((tmp_path / "made.gguf").read_bytes()) is None


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_are_read(wrong, version, order):
    content = usual(order=order, version=version).write()
    assert wrong(content) is None
    assert "is cut short" in (wrong(content[:-1]) or "")


@pytest.mark.parametrize("length", range(1, len(WHOLE), 7))
def test_a_file_cut_anywhere_is_damaged(wrong, length):
    assert wrong(WHOLE[:length]) is not None


def test_a_cut_is_told_in_numbers(wrong):
    assert wrong(WHOLE[:-1]) == (
        f'is cut short: "output_norm.weight" ends at byte {len(WHOLE):,}, the file has {len(WHOLE) - 1:,}'
    )
    assert wrong(WHOLE[:100]) == "is cut short: its header ends beyond byte 100, where the file ends"
    assert wrong(b"") == "is empty"


@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [
        (F32, (3, 5), 60),
        (F16, (3, 5), 30),
        (BF16, (7,), 14),
        (Q4_0, (64, 2), 72),
        (Q8_0, (32, 1, 2, 2), 136),
        (Q6_K, (256, 2), 420),
        (IQ4_XS, (512,), 272),
        (F32, (), 4),
    ],
)
def test_the_last_byte_of_the_last_tensor_is_missed(wrong, kind, shape, size):
    content = Writer().tensor("first", (8,), F32, 32).tensor("w", shape, kind, size).write()
    assert wrong(content) is None
    assert '"w"' in (wrong(content[:-1]) or "")


def test_of_an_unknown_type_the_beginning_is_checked(wrong):
    content = Writer().tensor("first", (8,), UNKNOWN, 32).tensor("w", (8,), UNKNOWN, 32).write()
    assert wrong(content) is None
    assert wrong(content[:-32]) is None
    assert "is cut short" in (wrong(content[:-33]) or "")


def test_a_file_of_a_vocabulary_alone_is_clean(wrong):
    assert wrong(Writer().pair("tokenizer.ggml.tokens", ARRAY, Writer().texts("a", "b")).write()) is None


def test_another_alignment_is_respected(wrong):
    made = Writer().pair("general.alignment", UINT32, struct.pack("<I", 4096))
    content = made.tensor("a", (1,), F32, 4, 4096).tensor("b", (1,), F32, 4, 4096).write(4096)
    assert wrong(content) is None
    assert wrong(content[:-1]) is not None


def test_nested_arrays_are_read(wrong):
    made = Writer()
    inner = made.texts("a", "b")
    assert wrong(made.pair("nested", ARRAY, made.pack("IQ", ARRAY, 2) + inner * 2).write()) is None


def huge(code: str, *numbers: int) -> bytes:
    return b"GGUF" + struct.pack("<" + code, *numbers)


TEXT = struct.pack("<Q", 1) + b"k"
PAIR = huge("IQQ", 3, 0, 1) + TEXT
TENSOR = huge("IQQ", 3, 1, 0) + TEXT
BEYOND = "ends beyond byte"
DAMAGES = {
    "not gguf": (b"GGML" + WHOLE[4:], "does not begin with GGUF"),
    "a web page": (b"<html>503</html>" * 9, "does not begin with GGUF"),
    "version 1": (huge("III", 1, 0, 0), "version 1, which"),
    "version 4": (huge("IQQ", 4, 0, 0), "version 4, which"),
    "version 0": (huge("IQQ", 0, 0, 0), "version 0, which"),
    "too many tensors": (huge("IQQ", 3, 2**60, 0), "more items than the file can hold"),
    "too many pairs": (huge("IQQ", 3, 0, 2**60) + bytes(100), "more items than the file can hold"),
    "too many texts": (PAIR + struct.pack("<IIQ", ARRAY, STRING, 2**62), "more items than the file can hold"),
    "too much work": (huge("IQQ", 3, 0, 4_000_001) + bytes(4_000_100), "too many to look through"),
    "a key without end": (huge("IQQQ", 3, 0, 1, 2**63), "a name in it has"),
    "numbers without end": (PAIR + struct.pack("<IIQ", ARRAY, UINT64, 2**62), BEYOND),
    "a text without end": (PAIR + struct.pack("<IQ", STRING, 2**64 - 1), BEYOND),
    "an unknown type": (PAIR + struct.pack("<I", 13), "type that is unknown"),
    "arrays in arrays": (
        PAIR + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 50,
        "nested too deep",
    ),
    "a long name": (huge("IQQ", 3, 1, 0) + struct.pack("<Q", 100_000) + bytes(200_000), "a name in it has"),
    "dimensions without end": (TENSOR + struct.pack("<I", 2**32 - 1) + bytes(99), "4,294,967,295 dimensions"),
    "no alignment": (Writer().pair("general.alignment", UINT32, bytes(4)).write(), "no power of two"),
    "an odd alignment": (
        Writer().pair("general.alignment", UINT32, struct.pack("<I", 24)).write(),
        "no power of two",
    ),
    "alignment of another type": (
        Writer().pair("general.alignment", UINT64, struct.pack("<Q", 32)).write(),
        "no power of two",
    ),
    "an offset between": (
        Writer().tensor("a", (1,), F32, 4, 1).tensor("b", (1,), F32, 4, 1).write(),
        '"b" does not begin at a multiple of 32 bytes',
    ),
    "half a block": (Writer().tensor("a", (33,), Q8_0, 100).write(), "no multiple of 32 values"),
    "an offset outside": (TENSOR + struct.pack("<IIQ", 0, F32, 2**63), "is cut short"),
    "a size beyond all counting": (
        TENSOR + struct.pack("<I8QIQ", 8, *[2**64 - 1] * 8, F32, 0) + bytes(99),
        "more values than can be counted",
    ),
}


@pytest.mark.parametrize(("content", "why"), DAMAGES.values(), ids=DAMAGES)
def test_a_header_that_no_loader_would_take_is_damaged(wrong, content, why):
    message = wrong(content) or ""
    assert why in message
    assert len(message) < 200


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_makes_the_check_crash(wrong, changes):
    content = bytearray(WHOLE)
    for at, value in changes:
        content[at] = value
    message = wrong(bytes(content))
    assert message is None or message.isprintable()


def test_the_data_is_not_read(wrong, tmp_path):
    sparse = tmp_path / "model.gguf"
    made = Writer().tensor("a", (1 << 30, 64), F16, 0).write()
    with sparse.open("wb") as stream:
        stream.write(made)
        stream.truncate(len(made) + -len(made) % 32 + (1 << 37))
    assert list(check_gguf(LocalFile("model.gguf", sparse, Stamp.of(sparse)))) == []
