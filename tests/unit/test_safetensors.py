"""A safetensors file is told to be whole, or what is wrong with it, from its header alone."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact import safetensors as ours
from agent.artifact.safetensors import DamagedError, Tensor, listed, quoted, read_header
from tests.conftest import FIXTURES
from tests.unit.tensors import disagreement, framed, official, whole

REAL = sorted(FIXTURES.glob("*/*.safetensors"))
CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "safetensors").iterdir())
BYTE = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


def said(tmp_path: Path, data: bytes) -> str:
    """What is wrong with the file; the official library refuses it as well."""
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(DamagedError) as refused:
        read_header(tmp_path / "file")
    assert isinstance(official(data), str)
    return str(refused.value)


def said_of(tmp_path: Path, header: object, data: bytes = b"\0") -> str:
    return said(tmp_path, framed(header if isinstance(header, bytes) else json.dumps(header).encode(), data))


@pytest.mark.parametrize("path", REAL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_real_file_holds_what_the_library_finds_in_it(tmp_path, path):
    assert disagreement(path.read_bytes(), tmp_path / "file") is None
    header = read_header(path)
    with safetensors.safe_open(path, "np") as file:
        assert list(header.tensors) == file.offset_keys()
        assert header.metadata == file.metadata()
    assert header.size_bytes == path.stat().st_size


def test_a_tensor_is_where_its_bytes_are(tmp_path):
    (tmp_path / "file").write_bytes(whole({"a": ("U8", [3], b"abc"), "b": ("BF16", [2, 1], b"wxyz")}))
    header = read_header(tmp_path / "file")
    assert header.tensors["b"] == Tensor("b", "BF16", (2, 1), 3, 7)
    data = (tmp_path / "file").read_bytes()[header.data_start :]
    assert data[3:7] == b"wxyz"
    assert header.metadata == {"format": "pt"}


def test_the_data_is_not_read(tmp_path):
    source = tmp_path / "file"
    source.write_bytes(framed({"t": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}}))
    os.truncate(source, source.stat().st_size + 2**40)
    assert read_header(source).tensors["t"].end == 2**40


def test_an_empty_file(tmp_path):
    assert said(tmp_path, b"") == "is empty"


def test_a_file_of_zeros_was_never_written(tmp_path):
    for size in (8, 4096):
        message = said(tmp_path, bytes(size))
        assert message == "begins with zeros: it was given its size, but its header was never written"


def test_a_header_of_zeros_was_never_written(tmp_path):
    assert "zeros for a header" in said(tmp_path, framed(b"\0" * 100, b"\0" * 100))


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (1, "is cut short: it has 1 of the 8 bytes that tell its header's length"),
        (7, "is cut short: it has 7 of the 8 bytes that tell its header's length"),
        (8, "is cut short: its header ends at byte 1,024, the file has 8"),
        (1023, "is cut short: its header ends at byte 1,024, the file has 1,023"),
        (1024, "is cut short: its header promises 5,120 bytes in all, the file has 1,024"),
        (5119, "is cut short: its header promises 5,120 bytes in all, the file has 5,119"),
    ],
)
def test_a_file_cut_short_says_by_how_much(tmp_path, kept, words):
    data = (FIXTURES / "sft_lora" / "adapter_model.safetensors").read_bytes()
    assert len(data) == 5120
    assert said(tmp_path, data[:kept]) == words


def test_a_file_with_more_than_its_header_promises(tmp_path):
    data = (FIXTURES / "sft_lora" / "adapter_model.safetensors").read_bytes()
    assert said(tmp_path, data + b"\n") == (
        "is longer than it should be: its header promises 5,120 bytes in all, the file has 5,121"
    )


def test_another_kind_of_file_is_no_safetensors_file(tmp_path):
    assert "is no safetensors file" in said(tmp_path, b"version https://git-lfs.github.com/spec/v1\n")
    assert "is no safetensors file" in said(tmp_path, (2**64 - 1).to_bytes(8, "little") + b"{}")


def test_a_header_longer_than_the_official_limit_is_refused_before_it_is_read(tmp_path):
    source = tmp_path / "file"
    source.write_bytes((100_000_001).to_bytes(8, "little") + b"{")
    os.truncate(source, 200_000_000)
    with pytest.raises(DamagedError, match="a header of 100,000,001 bytes is longer than the 100,000,000"):
        read_header(source)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[]", "it does not begin with {"),
        (b"{", "no JSON at character 1"),
        (b'{"t":}', "no JSON at character 5"),
        (b"{} {}", "no JSON at character 3: Extra data"),
        (b"{}\0", "no JSON at character 2: Extra data"),
        (b'{"t\n":1}', "no JSON at character 3: Invalid control character"),
        (b'{"\xff":1}', "byte 2 is no UTF-8"),
        (b'{"t":' + b"[" * 100_000, "nested too deep"),
        (b'{"t":' * 100_000, "nested too deep"),
        ({"t": None}, '"t" has not just a dtype, a shape and data_offsets'),
        ({"t": {"dtype": "U8", "shape": [1]}}, '"t" has not just a dtype'),
        ({"t": {**BYTE, "dtype": "INT4"}}, '"t" is of no known dtype'),
        ({"t": {**BYTE, "dtype": 8}}, '"t" is of no known dtype'),
        ({"t": {**BYTE, "shape": 1}}, 'the shape of "t" is no list of sizes'),
        ({"t": {**BYTE, "shape": [True]}}, 'the shape of "t" is no list of sizes'),
        ({"t": {**BYTE, "shape": ["1"]}}, 'the shape of "t" is no list of sizes'),
        ({"t": {**BYTE, "shape": [1.0]}}, "1.0 is no number of bytes or values"),
        ({"t": {**BYTE, "shape": [-1]}}, "-1 is no number of bytes or values"),
        ({"t": {**BYTE, "shape": [2**64]}}, "18446744073709551616 is no number of bytes or values"),
        (b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[-0,1]}}', "-0 is no number of bytes or values"),
        (b'{"t":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}', "1e0 is no number of bytes or values"),
        (b'{"t":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', "NaN is no number of bytes or values"),
        (b'{"t":%s}' % (b"9" * 1_000_000), "99999999999999999999 is no number of bytes or values"),
        ({"t": {**BYTE, "data_offsets": [0]}}, 'the data_offsets of "t" are not where it begins and ends'),
        ({"t": {**BYTE, "data_offsets": [0, 1, 1]}}, "are not where it begins and ends"),
        ({"t": {**BYTE, "data_offsets": [1, 0]}}, "are not where it begins and ends"),
        ({"t": {**BYTE, "data_offsets": {"0": 1}}}, "are not where it begins and ends"),
        ({"t": {**BYTE, "shape": [3, 5]}}, '"t" is U8 of shape [3, 5], but has 1 bytes'),
        ({"t": {**BYTE, "dtype": "F4", "shape": [1]}}, '"t" is F4 of shape [1], but has 1 bytes'),
        ({"t": {**BYTE, "dtype": "F6_E2M3", "shape": [2]}}, '"t" is F6_E2M3 of shape [2], but has 1 bytes'),
        (
            {"t": {**BYTE, "shape": [2**63, 2, 0], "data_offsets": [0, 0]}},
            "of shape [9223372036854775808, 2, 0], but has 0 bytes",
        ),
        ({"t": {**BYTE, "data_offsets": [1, 2]}}, 'a gap lies before "t", at byte 1 of the data'),
        ({"t": BYTE, "u": BYTE}, 'another tensor overlaps "u", at byte 0 of the data'),
        ({"t": BYTE, "z": {**BYTE, "shape": [0], "data_offsets": [5, 5]}}, 'a gap lies before "z"'),
        ({"__metadata__": {"step": 1}, "t": BYTE}, "its __metadata__ is more than names and texts"),
        ({"__metadata__": [], "t": BYTE}, "its __metadata__ is more than names and texts"),
        ({"\ud800": BYTE}, "a name in it holds half a character"),
        ({"__metadata__": {"a": "\udc00"}, "t": BYTE}, "a name in it holds half a character"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_damaged_header_says_why(tmp_path, header, words):
    message = said_of(tmp_path, header)
    assert words in message
    assert message.startswith("has a damaged header: ")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b' {"t":%s}', "it does not begin with {"),
        (b'{"t":%s,"t":%s}', '"t" occurs twice'),
        (b'{"__metadata__":{"a":"","a":""},"t":%s}', '"a" occurs twice'),
        (b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}}', '"t" has not just a dtype'),
        (b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0.5}}', "0.5 is no number"),
        (b'{"t":["U8",[1],[0,1]]}', '"t" has not just a dtype'),
        (b'{"t":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}', '"t" is of no known dtype'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_we_are_stricter_than_the_library_where_the_format_knows_no_such_header(tmp_path, header, words):
    data = framed(header.replace(b"%s", json.dumps(BYTE).encode()), b"\0")
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(DamagedError) as refused:
        read_header(tmp_path / "file")
    assert words in str(refused.value)
    assert official(data) == {"t": ("U8", (1,), 1)}
    assert disagreement(data, tmp_path / "file") is None


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"{}      ",
        b'{"t":%s} \t\r\n',
        b'{"__metadata__":null,"t":%s}',
        b'{"":%s}',
        b'{"\\ud83d\\ude00":%s}',
        b'{"z":{"dtype":"F64","shape":[0,18446744073709551615],"data_offsets":[1,1]},"t":%s}',
        b'{"t":%s,"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        b'{"z":{"dtype":"C64","shape":[5,0],"data_offsets":[0,0]},"t":%s}',
        b'{"t":{"data_offsets":[0,1],"\\u0064type":"U8","shape":[]}}',
        b'{"t":{"data_offsets":[0,1],"dtype":"F4","shape":[1,2]}}',
    ],
    ids=str,
)
def test_odd_but_right_headers_pass(tmp_path, header):
    data = framed(header.replace(b"%s", json.dumps(BYTE).encode()), bytes(b"{}" not in header))
    assert isinstance(official(data), dict)
    assert disagreement(data, tmp_path / "file") is None


@pytest.mark.parametrize(("dtype", "bits"), ours._BITS.items())
def test_a_dtype_has_the_size_that_the_library_gives_it(tmp_path, dtype, bits):
    data = framed({"t": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}, bytes(bits))
    (tmp_path / "file").write_bytes(data)
    assert read_header(tmp_path / "file").tensors["t"] == Tensor("t", dtype, (8,), 0, bits)
    assert official(data) == {"t": (dtype, (8,), bits)}


def test_every_dtype_of_the_library_is_known():
    refused = official(framed({"t": {"dtype": "none", "shape": [], "data_offsets": [0, 0]}}))
    assert set(re.findall("`([A-Z0-9_]+)`", refused)) == set(ours._BITS)


def test_a_hostile_name_stays_short_and_on_one_line():
    assert quoted("a\n\x1b[31m" + "b" * 1000) == '"a\\n\\u001b[31m' + "b" * 93 + '"'
    assert quoted("\ud800") == '"\\ud800"'
    assert listed(["a", "b", "c"]) == '"a", "b", "c"'
    assert listed([str(number) for number in range(1003)]) == '"0", "1", "2", … and 1,000 more'


SIZES = st.one_of(st.integers(0, 4), st.sampled_from([2**31, 2**62, 2**63, 2**64 - 1, 2**64]))
ODD = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers(), st.just([]))
RARELY = st.integers(0, 9).map(lambda number: number == 0)


@st.composite
def files(draw):
    """A whole file, now and then with something else in some place."""
    header, at = {}, 0
    if draw(st.booleans()):
        texts = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
        header["__metadata__"] = draw(ODD if draw(RARELY) else texts)
    for name in draw(st.lists(st.text(max_size=3), unique=True, max_size=4)):
        dtype, shape = draw(st.sampled_from(sorted(ours._BITS))), draw(st.lists(SIZES, max_size=3))
        end = at + math.prod(shape) * ours._BITS[dtype] // 8 + (draw(RARELY) and draw(st.integers(-1, 1)))
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        if draw(RARELY):
            entry[draw(st.sampled_from([*entry, "other"]))] = draw(ODD)
        header[name], at = entry, end
    shuffled = {name: header[name] for name in draw(st.permutations(sorted(header)))}
    return framed(shuffled, bytes(min(max(0, at), 4096) + (draw(RARELY) and 1)))


@given(data=files())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_made_files_are_read_as_the_library_reads_them(tmp_path, data):
    assert disagreement(data, tmp_path / "file") is None


@st.composite
def changed(draw):
    """A real file with its header changed by a few bytes, and sometimes its length too."""
    data = bytearray(draw(st.sampled_from(REAL)).read_bytes())
    length = int.from_bytes(data[:8], "little")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, 7 + length))
        kind = draw(st.sampled_from(["flip", "insert", "delete"]))
        if kind == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=3))
        else:
            del data[at : at + draw(st.integers(1, 3))]
    if draw(st.booleans()):
        data[:8] = (length + draw(st.integers(-3, 9))).to_bytes(8, "little")
    return bytes(data)


@given(data=changed())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_real_files_are_read_as_the_library_reads_them(tmp_path, data):
    assert disagreement(data, tmp_path / "file") is None


@given(st.sampled_from(REAL), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_real_file_cut_anywhere_is_cut_short(tmp_path, path, data):
    kept = data.draw(st.integers(1, path.stat().st_size - 1))
    assert said(tmp_path, path.read_bytes()[:kept]).startswith("is cut short: ")


@given(st.sampled_from(REAL), st.binary(min_size=1, max_size=9))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_real_file_with_bytes_appended_is_too_long(tmp_path, path, more):
    assert said(tmp_path, path.read_bytes() + more).startswith("is longer than it should be: ")


def test_what_fuzzing_found_interesting_is_read_as_the_library_reads_it(tmp_path):
    assert len(CORPUS) > 20
    for path in CORPUS:
        assert disagreement(path.read_bytes(), tmp_path / "file") is None, path.name
