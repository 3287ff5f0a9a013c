"""NaN and Inf in weights are found, in every float that is looked at, and what was not is told."""

from __future__ import annotations

import math
import os
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact import numbers
from agent.artifact.numbers import Looked, check_numbers
from agent.artifact.safetensors import read_header
from tests.conftest import FIXTURES
from tests.unit.tensors import framed, local, whole

REAL = sorted(FIXTURES.rglob("*.safetensors"))
NAN, INF = b"\0\0\xc0\x7f", b"\0\0\x80\x7f"  # of F32


@pytest.fixture
def checked(tmp_path):
    """What is found in files of these tensors; a list of several makes several files."""

    def check(*models, mode="full", **more):
        files = []
        for number, tensors in enumerate(models):
            source = tmp_path / f"{number}.safetensors"
            source.write_bytes(whole(tensors))
            files.append((local(source), read_header(source)))
        return check_numbers(files, mode, **more)

    return check


def e4m3(byte):
    """OCP 8-bit float, E4M3: no Inf, NaN with all bits but the sign."""
    return math.nan if byte & 0x7F == 0x7F else 0.0


def e5m2(byte):
    """OCP 8-bit float, E5M2: the upper half of an F16."""
    return struct.unpack("<e", bytes((0, byte)))[0]


BYTE_FLOATS = {
    "F8_E4M3": e4m3,
    "F8_E5M2": e5m2,
    "F8_E4M3FNUZ": lambda byte: math.nan if byte == 0x80 else 0.0,
    "F8_E5M2FNUZ": lambda byte: math.nan if byte == 0x80 else 0.0,
    "F8_E8M0": lambda byte: math.nan if byte == 0xFF else 0.0,
}


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.relative_to(FIXTURES)))
@pytest.mark.parametrize("mode", ["sample", "full"])
def test_real_weights_are_numbers_and_all_are_looked_at(path, mode):
    header = read_header(path)
    found, looked = check_numbers([(local(path), header)], mode)
    assert found == []
    count = len(header.tensors)
    assert looked == Looked(header.size_bytes - header.data_start, count, count)


@given(st.sampled_from(sorted(numbers._FORMATS)), st.data())
@settings(deadline=None, max_examples=300)
def test_a_first_look_at_the_highest_bytes_misses_nothing(dtype, data):
    form = numbers._FORMATS[dtype]
    edges = st.sampled_from([form.nan, form.infinity or 0, form.nan - 1, 0, (1 << 8 * form.word_bytes) - 1])
    word = st.one_of(edges, st.integers(0, (1 << 8 * form.word_bytes) - 1))
    words = data.draw(st.lists(word, min_size=1, max_size=5))
    raw = memoryview(b"".join(one.to_bytes(form.word_bytes, "little") for one in words))
    assert numbers._count_if_any(raw, form) == numbers._count(raw, form)


def test_a_sample_of_sound_weights_does_without_numpy(checked, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    path = FIXTURES / "sft_full" / "model.safetensors"
    assert check_numbers([(local(path), read_header(path))], "sample")[0] == []
    with pytest.raises(ImportError):
        checked({"a": ("F32", [1], NAN)}, mode="sample")


@pytest.mark.parametrize("mode", ["sample", "full"])
def test_what_is_no_number_is_told_by_file_and_tensor(checked, mode):
    good = {"x": ("F32", [4], None)}
    bad = {
        "a": ("F32", [4], NAN * 2 + bytes(8)),
        "b": ("F32", [2, 2], INF + bytes(12)),
        "c": ("F32", [2], NAN + INF),
    }
    [found], looked = checked(good, bad, good, mode=mode)
    assert (found.path, found.kind, found.refuses) == ("1.safetensors", "not-finite", True)
    assert found.message == (
        'has weights that are no numbers: "a" (2 NaN of 4 values looked at), '
        '"b" (1 Inf of 4 values looked at), "c" (1 NaN and 1 Inf of 2 values looked at)'
    )
    assert "AGENT_CHECK_WEIGHTS=headers" in found.hint
    assert looked == Looked(72, 5, 5)


@pytest.mark.parametrize("count", [4, 10])
def test_three_tensors_of_a_file_are_named(checked, count):
    [found], _ = checked({f"t{number:02}": ("F32", [1], NAN) for number in range(count)})
    assert found.message.count("1 NaN of 1 values") == 3
    assert found.message.endswith(f", … and {count - 3} more")


def test_inf_in_a_mask_is_meant_but_nan_is_not(checked):
    assert checked({"attn.causal_mask": ("F32", [2], INF * 2)})[0] == []
    [found], _ = checked({"attn.causal_mask": ("F32", [2], INF + NAN)})
    assert '"attn.causal_mask" (1 NaN of 2 values looked at)' in found.message


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16"])
@given(values=st.lists(st.floats(), min_size=1, max_size=20))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_ieee_number_is_judged_as_numpy_does(checked, dtype, values):
    with np.errstate(over="ignore"):
        array = np.array(values).astype(f"<f{int(dtype[1:]) // 8}")
    found, _ = checked({"t": (dtype, [len(values)], array.tobytes())})
    assert said_of(found) == (int(np.isnan(array).sum()), int(np.isinf(array).sum()))


@given(raw=st.binary(min_size=2, max_size=40).filter(lambda raw: len(raw) % 2 == 0))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bf16_is_the_upper_half_of_a_float(checked, raw):
    wide = b"".join(b"\0\0" + raw[at : at + 2] for at in range(0, len(raw), 2))
    array = np.frombuffer(wide, "<f4")
    found, _ = checked({"t": ("BF16", [len(array)], raw)})
    assert said_of(found) == (int(np.isnan(array).sum()), int(np.isinf(array).sum()))


@pytest.mark.parametrize("dtype", BYTE_FLOATS)
@pytest.mark.parametrize("others", [b"", b"\0", b"\1\x77"], ids=repr)
def test_every_8_bit_float(dtype, others):
    values = [BYTE_FLOATS[dtype](byte) for byte in range(256)]
    counted = [
        numbers._count(memoryview(others + bytes([byte])), numbers._FORMATS[dtype]) for byte in range(256)
    ]
    assert counted == [(math.isnan(value), math.isinf(value)) for value in values]


def test_the_parts_of_a_complex_number_are_judged(checked):
    found, looked = checked({"t": ("C64", [2], bytes(4) + NAN + INF + bytes(4))})
    assert '"t" (1 NaN and 1 Inf of 4 values looked at)' in found[0].message
    assert looked == Looked(16, 1, 1)


def test_what_is_no_float_is_not_looked_at(checked):
    ones = {dtype: (dtype, [8], b"\xff" * (8 * size)) for dtype, size in (("I64", 8), ("U8", 1), ("BOOL", 1))}
    found, looked = checked({**ones, "F4": ("F4", [8], b"\xff" * 4), "empty": ("F32", [0], b"")})
    assert (found, looked) == ([], Looked(0, 0, 0))


def test_a_tensor_is_read_in_pieces_and_none_of_it_is_missed(checked, monkeypatch):
    monkeypatch.setattr(numbers, "_LARGEST_READ", 8)
    for place in range(5):
        data = bytes(4 * place) + NAN + bytes(4 * (4 - place))
        [found], looked = checked({"t": ("F32", [5], data), "u": ("F32", [1], None)})
        assert '"t" (1 NaN of 5 values looked at)' in found.message
        assert looked == Looked(24, 2, 2)


def sparse(folder, name, sizes):
    """A file with a BF16 tensor of each size in bytes, all zeros that take no room on disk."""
    source = folder / name
    at, entries = 0, {}
    for number, size in enumerate(sizes):
        entries[f"t{number}"] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [at, at + size]}
        at += size
    source.write_bytes(framed(entries))
    os.truncate(source, len(framed(entries)) + at)
    return local(source), read_header(source)


def test_a_sample_of_a_large_model_is_64_mb_of_all_its_tensors(tmp_path):
    files = [sparse(tmp_path, f"{shard}.safetensors", [20_000_000] * 100) for shard in range(5)]
    found, looked = check_numbers(files, "sample", clock=lambda: 0.0)
    assert found == []
    assert looked.tensors_seen == looked.tensors_total == 500
    assert 55_000_000 < looked.bytes_read <= 64_000_000


@pytest.mark.parametrize("place", [0, 9_999_999, 4_999_999])
def test_a_sample_looks_at_begin_middle_and_end(tmp_path, place):
    file, header = sparse(tmp_path, "file", [20_000_000] * 40)
    with file.source.open("r+b") as stream:
        stream.seek(header.data_start + 7 * 20_000_000 + 2 * place)
        stream.write(b"\xc0\x7f")
    [found], looked = check_numbers([(file, header)], "sample", clock=lambda: 0.0)
    assert '"t7" (1 NaN of ' in found.message
    assert looked.bytes_read <= 64_000_000


def test_of_too_many_tensors_evenly_spaced_ones_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "_SAMPLE_BYTES", 5 * 4096)
    file, header = sparse(tmp_path, "file", [10_000] * 20)
    with file.source.open("r+b") as stream:
        stream.seek(header.data_start)
        stream.write(b"\xc0\x7f" * 100_000)
    [found], looked = check_numbers([(file, header)], "sample", clock=lambda: 0.0)
    assert looked == Looked(5 * 4096, 5, 20)
    for name in ("t0", "t4", "t8"):
        assert f'"{name}" (2,048 NaN of 2,048 values looked at)' in found.message


def test_reads_go_forward_through_each_file(tmp_path, monkeypatch):
    files = [sparse(tmp_path, name, [5_000_000, 300_000_000, 6]) for name in ("a", "b")]
    reads = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: reads.append((fd, at)) or preadv(fd, into, at))
    check_numbers(files, "sample", clock=lambda: 0.0)
    assert len(reads) > 10
    half = len(reads) // 2
    for part in (reads[:half], reads[half:]):
        assert part == sorted(part)
    assert len({fd for fd, _ in reads}) == 1, "the first file is closed before the second is opened"


def test_a_tensor_that_a_sample_has_room_for_is_read_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "_SAMPLE_BYTES", 3 * 3 * 4096)
    file = sparse(tmp_path, "file", [3 * 4096, 2 * 4096, 2])
    _, looked = check_numbers([file], "sample", clock=lambda: 0.0)
    assert looked == Looked(5 * 4096 + 2, 3, 3)


@pytest.mark.parametrize(("gigabytes", "reads"), [(0.1, 10), (3, 30)])
def test_a_sample_takes_a_second_per_gb_of_model(tmp_path, gigabytes, reads):
    file = sparse(tmp_path, "file", [int(gigabytes * 1e7)] * 100)
    now = iter(range(100_000))
    _, looked = check_numbers([file], "sample", clock=lambda: next(now) / 10)
    assert looked.tensors_total == 100
    assert 0 < looked.tensors_seen < 100
    size = looked.bytes_read / (64_000_000 // 100 // 4096 // 3 * 4096)
    assert size == pytest.approx(reads, abs=1)


def test_full_has_no_time_limit(tmp_path):
    file = sparse(tmp_path, "file", [1_000_000] * 10)
    _, looked = check_numbers([file], "full", clock=lambda: pytest.fail("nobody asked for the time"))
    assert looked == Looked(10_000_000, 10, 10)


def test_a_file_that_shrank_meanwhile_is_an_error_of_reading(tmp_path):
    file, header = sparse(tmp_path, "file", [1000, 1000])
    os.truncate(file.source, header.size_bytes - 1)
    for mode in ("sample", "full"):
        with pytest.raises(OSError, match="shorter than its header promises") as failed:
            check_numbers([(file, header)], mode)
        assert failed.value.filename == str(file.source)


def test_a_fifo_in_a_file_s_place_does_not_block(tmp_path):
    file, header = sparse(tmp_path, "file", [1000])
    file.source.unlink()
    os.mkfifo(file.source)
    with pytest.raises(OSError, match="not a regular file"):
        check_numbers([(file, header)], "full")


def test_nothing_to_look_at(checked):
    assert check_numbers([], "sample") == ([], Looked(0, 0, 0))
    assert checked({}, mode="sample") == ([], Looked(0, 0, 0))


def said_of(found):
    """How many NaN and Inf the only finding tells."""
    if not found:
        return 0, 0
    words = found[0].message.replace("(", "").replace(",", "").split()
    counts = {words[at]: int(words[at - 1]) for at in range(1, len(words)) if words[at] in {"NaN", "Inf"}}
    return counts.get("NaN", 0), counts.get("Inf", 0)
