"""What a training says of itself is read as from a stranger."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.jobs.row import METRICS
from agent.pod.reports import LARGEST_BYTES, Progress, Reports

WHOLE = {
    "step": 50,
    "max_steps": 200,
    "epoch": 0.5,
    "num_epochs": 2.0,
    "elapsed_s": 50.9,
    "remaining_s": 152.7,
    "samples_per_second": 24.0,
    "gpu_memory_allocated_gb": 3.5,
    "gpu_memory_reserved_gb": 4.0,
    "metrics": {"loss": 0.5, "eval_loss": 0.7, "learning_rate": 1e-5, "grad_norm": 1.5, "other": 3.0},
    "ended": False,
}


@pytest.fixture
def told(tmp_path):
    """Reports of a folder with `progress.json` and `checkpoints.jsonl` as they were given."""

    def put(progress=None, checkpoints=None):
        for name, content in (("progress.json", progress), ("checkpoints.jsonl", checkpoints)):
            if content is not None:
                raw = content if isinstance(content, bytes | str) else json.dumps(content)
                (tmp_path / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return Reports(tmp_path)

    return put


def line(path, step=1):
    return json.dumps({"step": step, "path": str(path)}).encode() + b"\n"


def test_a_report_becomes_the_columns_of_the_row(told):
    latest = told(WHOLE).latest()
    assert latest.as_columns() == {
        "progress": 25.0,
        "current_step": 50,
        "current_epoch": 0.5,
        "total_steps": 200,
        "total_epochs": 2,
        "loss": 0.5,
        "eval_loss": 0.7,
        "learning_rate": 1e-5,
        "grad_norm": 1.5,
        "samples_per_second": 24.0,
        "gpu_memory_allocated_gb": 3.5,
        "gpu_memory_reserved_gb": 4.0,
        "elapsed_seconds": 50,
        "remaining_seconds": 152,
    }
    assert set(latest.as_columns()) == {"progress", *METRICS}
    assert not latest.ended
    assert told(WHOLE | {"ended": True}).latest().ended


def test_what_is_not_known_is_no_column(told):
    assert told({"step": 3}).latest().as_columns() == {"current_step": 3}


@pytest.mark.parametrize(
    ("step", "steps", "progress"),
    [(0, 200, 0.0), (1, 3, 33.33), (199, 200, 99.0), (200, 200, 99.0), (300, 200, 99.0), (5, 0, None),
     (5, -1, None), (-5, 10, 0.0), (1, 10**9, 0.0)],
)  # fmt: skip
def test_progress_is_percent_and_never_100(step, steps, progress, told):
    assert told({"step": step, "max_steps": steps}).latest().progress == progress


def test_numbers_are_cut_to_what_the_columns_hold(told):
    found = told(
        {
            "step": 10**300,
            "max_steps": 1e300,
            "elapsed_s": -3,
            "remaining_s": 2.0**40,
            "num_epochs": 2**31,
            "epoch": 1e308,
        }
    ).latest()
    largest = 2**31 - 1
    assert (found.current_step, found.total_steps, found.total_epochs) == (largest,) * 3
    assert (found.elapsed_seconds, found.remaining_seconds, found.current_epoch) == (0, largest, 1e308)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", '"0.5"', "true", "null", "[1]", "{}"]
)
def test_what_is_no_finite_number_is_not_known(value, told):
    raw = (
        f'{{"step": 1, "epoch": {value}, "elapsed_s": {value}, "remaining_s": {value}, "max_steps": {value},'
        f' "metrics": {{"loss": {value}}}}}'
    )
    assert told(raw).latest().as_columns() == {"current_step": 1}


def test_an_integer_that_no_float_holds_is_not_known(told):
    raw = f'{{"step": 1, "epoch": 1{"0" * 400}, "metrics": {{"loss": 1{"0" * 400}}}}}'
    assert told(raw).latest().as_columns() == {"current_step": 1}
    assert told(f'{{"step": 1{"0" * 5000}}}').latest() is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"7", b'"x"', b'{"step": 1', b'{"step": null}', b'{"step": "1"}',
        b"\xff\xfe\x00", b"\x00" * 100, b'{"metrics": {"loss": 1}}', b"[" * 60_000, b'{"step": NaN}',
    ],
)  # fmt: skip
def test_what_is_damaged_was_not_said(content, told):
    assert told(content).latest() is None


def test_metrics_of_another_kind_are_passed_over(told):
    assert told({"step": 1, "metrics": [1]}).latest().as_columns() == {"current_step": 1}


def test_a_file_up_to_64_kb_is_read_and_a_larger_one_is_not(told):
    content = json.dumps(WHOLE).encode()
    assert told(content + b" " * (LARGEST_BYTES - len(content))).latest()
    assert told(content + b" " * (LARGEST_BYTES - len(content) + 1)).latest() is None


def test_nothing_but_a_plain_file_is_read(told, tmp_path):
    (tmp_path / "elsewhere").write_text(json.dumps(WHOLE))
    seen, path = Reports(tmp_path), tmp_path / "progress.json"
    assert seen.latest() is None
    path.mkdir()
    assert seen.latest() is None
    path.rmdir()
    path.symlink_to(tmp_path / "elsewhere")
    assert seen.latest() is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert seen.latest() is None
    path.unlink()
    os.mkfifo(path)  # nobody writes into it
    assert seen.latest() is None
    pipe = os.open(path, os.O_RDWR)
    os.write(pipe, json.dumps(WHOLE).encode())
    assert seen.latest() is None
    os.close(pipe)
    os.mkfifo(tmp_path / "checkpoints.jsonl")
    assert seen.checkpoints() == []


def test_a_folder_that_is_gone_says_nothing(tmp_path):
    seen = Reports(tmp_path / "gone")
    assert (seen.latest(), seen.checkpoints()) == (None, [])


def test_checkpoints_come_in_the_order_they_were_told(told, tmp_path):
    paths = [tmp_path / f"checkpoint-{step}" for step in (10, 20, 15)]
    assert told(checkpoints=b"".join(map(line, paths))).checkpoints() == paths


def test_a_torn_last_line_is_not_a_checkpoint(told, tmp_path):
    whole = line(tmp_path / "checkpoint-1") + line(tmp_path / "checkpoint-10")
    for length in range(len(line(tmp_path / "checkpoint-1")), len(whole)):
        assert told(checkpoints=whole[:length]).checkpoints() == [tmp_path / "checkpoint-1"]


def test_lines_that_name_no_folder_are_passed_over(told, tmp_path):
    strange = [
        b"", b"{}", b"[]", b"null", b'{"path": 3}', b'{"path": "relative"}', b'{"path": "/nul\\u0000"}',
        b"\xff", b'{"path": "/half \\ud800"}', b'{"path": ""}', b"[" * 50_000,
    ]  # fmt: skip
    content = b"\n".join(strange) + b"\n" + line(tmp_path / "checkpoint-1")
    assert told(checkpoints=content).checkpoints() == [tmp_path / "checkpoint-1"]


def test_of_very_many_checkpoints_the_newest_are_known(told, tmp_path):
    paths = [tmp_path / f"checkpoint-{step}" for step in range(5000)]
    found = told(checkpoints=b"".join(map(line, paths))).checkpoints()
    assert 100 < len(found) < 5000
    assert found == paths[-len(found) :]


def test_a_name_that_is_no_unicode_is_a_path_all_the_same(told, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    assert [os.fsencode(found) for found in told(checkpoints=line(path)).checkpoints()] == [os.fsencode(path)]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
INTS = {"current_step", "total_steps", "total_epochs", "elapsed_seconds", "remaining_seconds"}


def assert_fits(progress: Progress | None) -> None:
    for name, value in (progress.as_columns() if progress else {}).items():
        assert type(value) is (int if name in INTS else float)
        assert math.isfinite(value)
        if name in INTS:
            assert 0 <= value < 2**31
        if name == "progress":
            assert 0 <= value <= 99


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    document=st.fixed_dictionaries({}, optional={name: JSON for name in WHOLE})  # noqa: C420
    | st.dictionaries(st.sampled_from(sorted(WHOLE)), JSON)
    | JSON,
    metrics=st.none() | st.dictionaries(st.sampled_from(["loss", "grad_norm", "eval_loss"]), JSON),
)
def test_whatever_is_written_there_fits_the_row(document, metrics, told):
    if isinstance(document, dict) and metrics is not None:
        document = document | {"metrics": metrics}
    assert_fits(told(document).latest())
    told(checkpoints=document).checkpoints()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300), cut=st.integers(0, 400), byte=st.integers(0, 255))
def test_no_bytes_can_do_more_than_say_nothing(content, cut, byte, told):
    assert_fits(told(content, content).latest())
    whole = bytearray(json.dumps(WHOLE).encode())
    whole[cut % len(whole)] = byte
    assert_fits(told(bytes(whole)).latest())
    assert_fits(told(bytes(whole[:cut])).latest())
    told(checkpoints=content).checkpoints()
