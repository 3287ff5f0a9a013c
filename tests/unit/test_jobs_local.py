from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from agent.errors import JobRefusedError
from agent.jobs import LocalStore, Row
from agent.jobs import local as local_module
from agent.jobs.row import clean_message

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
URL, OTHER_URL = "https://huggingface.co/ada/m", "https://huggingface.co/ada/other"


@pytest.fixture
def store(tmp_path):
    """A store whose clock says t1, t2, … one tick for each time it is asked."""
    ticks = itertools.count(1)
    return LocalStore(tmp_path / "job", JOB, now=lambda: f"t{next(ticks)}")


@pytest.fixture
def given(tmp_path):
    """Put a row there, as an earlier run or another program left it."""

    def put(content):
        path = tmp_path / "job" / "row.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return put


def on_disk(tmp_path):
    return json.loads((tmp_path / "job" / "row.json").read_text())


def test_a_job_nobody_has_written_is_pending(store, tmp_path):
    assert store.read() == Row(id=JOB)
    assert (store.read().status, store.read().progress) == ("pending", 0.0)
    assert not (tmp_path / "job").exists()


def test_starting_sets_running_and_the_time(store, tmp_path):
    assert store.start() == Row(id=JOB, status="running", started_at="t1", updated_at="t2")
    assert on_disk(tmp_path) == {
        "id": JOB,
        "status": "running",
        "progress": 0.0,
        "model_url": None,
        "error_message": None,
        "failure_stage": None,
        "result_note": None,
        "started_at": "t1",
        "completed_at": None,
        "updated_at": "t2",
    }


def test_completing_sets_progress_100_and_the_models_address(store):
    store.start()
    assert store.complete(model_url=URL, note="a note") == Row(
        id=JOB,
        status="completed",
        progress=100.0,
        model_url=URL,
        result_note="a note",
        started_at="t1",
        completed_at="t3",
        updated_at="t4",
    )


@pytest.fixture
def completed(store, tmp_path):
    store.start()
    store.complete(model_url=URL, note="n")
    return (tmp_path / "job" / "row.json").read_bytes()


@pytest.mark.parametrize(
    "replay",
    [
        lambda store: store.start(),
        lambda store: store.complete(model_url=URL, note="another note"),
        lambda store: store.fail(message="late", stage="publish"),
    ],
    ids=["start", "complete", "fail"],
)
def test_a_replay_over_a_completed_row_changes_nothing(store, completed, tmp_path, replay):
    row = replay(store)
    assert (row.status, row.progress, row.model_url, row.result_note) == ("completed", 100.0, URL, "n")
    assert (tmp_path / "job" / "row.json").read_bytes() == completed


def test_a_completed_row_does_not_change_its_model(store, completed, tmp_path):
    with pytest.raises(JobRefusedError) as raised:
        store.complete(model_url=OTHER_URL, note=None)
    assert raised.value.message == f"Job {JOB} is already completed with {URL}, not {OTHER_URL}."
    assert raised.value.hint == "Give this publication a JOB_ID of its own."
    assert (tmp_path / "job" / "row.json").read_bytes() == completed


def test_a_row_completed_without_a_model_may_receive_one_once(store):
    first = store.complete(model_url=None, note="not uploaded")
    row = store.complete(model_url=URL, note=None)
    assert (row.model_url, row.result_note, row.completed_at) == (URL, None, first.completed_at)
    with pytest.raises(JobRefusedError):
        store.complete(model_url=OTHER_URL, note=None)
    assert store.read().model_url == URL


def test_the_row_is_always_the_one_of_this_job(store, given):
    given({"id": "somebody-else", "status": "running"})
    assert store.read().id == JOB


def test_fields_of_another_version_do_not_disturb(store, given):
    given({"status": "running", "gpu": "H100", "": 1})
    assert store.complete(model_url=URL, note=None).status == "completed"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"status": "comp', b"\x00\x00", b"\xff\xfe", b"[]", b"null", b'"x"', b"7"]
)
def test_a_damaged_row_is_a_pending_one_and_can_be_written_again(store, given, damage):
    given(damage)
    assert store.read() == Row(id=JOB)
    assert store.complete(model_url=URL, note=None).status == "completed"
    assert store.read().model_url == URL


def test_a_message_loses_its_nul_before_it_is_cut():
    assert clean_message("\0" * 9000 + "x" * 8000) == "x" * 8000


@pytest.mark.parametrize("text", ["", "Käse ☃", "line\nline\r\n\t", '"quotes" \\ back', "\u2028\x85"])
def test_a_message_is_read_back_as_it_was(store, text):
    assert store.fail(message=text, stage="publish").error_message == text


WRITES = [
    lambda store: store.start(),
    lambda store: store.complete(model_url=URL, note=None),
    lambda store: store.fail(message="x", stage="publish"),
]


@pytest.mark.parametrize("write", WRITES, ids=["start", "complete", "fail"])
def test_a_row_that_cannot_be_written_is_refused_with_place_and_cure(store, tmp_path, write):
    (tmp_path / "job").write_text("a file where the folder should be")
    with pytest.raises(JobRefusedError) as raised:
        write(store)
    path = tmp_path / "job" / "row.json"
    assert raised.value.message.startswith(f"The row of job {JOB} cannot be written to {path}: ")
    assert raised.value.hint == "Set AGENT_STATE_DIR to a folder that can be written, then run again."


def test_a_folder_in_place_of_the_row_is_refused(store, tmp_path):
    (tmp_path / "job" / "row.json").mkdir(parents=True)
    with pytest.raises(JobRefusedError):
        store.start()


def test_a_folder_that_does_not_take_files_is_refused():
    with pytest.raises(JobRefusedError):
        LocalStore(Path("/proc/nowhere"), JOB).start()


@pytest.mark.parametrize("write", WRITES, ids=["start", "complete", "fail"])
def test_a_write_that_got_lost_is_noticed_by_reading_back(store, monkeypatch, write):
    monkeypatch.setattr(local_module, "write_durably", lambda *_: None)
    with pytest.raises(JobRefusedError, match="reads back differently"):
        write(store)


def test_times_are_utc_iso_8601_unless_told_otherwise(tmp_path):
    row = LocalStore(tmp_path, JOB).start()
    assert len(row.started_at) == len("2025-01-01T00:00:00+00:00")
    assert row.started_at.endswith("+00:00")
