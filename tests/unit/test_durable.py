from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent import hashes
from agent.durable import read_document, write_durably
from agent.errors import Interrupted
from agent.hashes import RACY_NS, HashMemory, Stamp

SECOND_NS = 1_000_000_000


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_a_document_is_read_back_as_written(tmp_path):
    document = {"text": "ä\u2028\ud800", "number": 1.5, "list": [1, None, True]}
    write_durably(tmp_path / "new" / "folder" / "doc.json", document)
    assert read_document(tmp_path / "new" / "folder" / "doc.json") == document
    assert names_in(tmp_path / "new" / "folder") == ["doc.json"]


def test_writing_replaces_the_document(tmp_path):
    write_durably(tmp_path / "doc.json", {"old": 1})
    write_durably(tmp_path / "doc.json", {"new": 2})
    assert read_document(tmp_path / "doc.json") == {"new": 2}


def test_the_bytes_are_on_disk_before_the_rename_and_the_rename_before_the_end(tmp_path, monkeypatch):
    story = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle):
        found = os.fstat(handle)
        story.append("folder flushed" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes flushed")
        real_fsync(handle)

    def replace(self, target):
        assert self.parent == target.parent
        story.append("renamed")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_durably(tmp_path / "doc.json", {"a": 1})
    assert story == ["11 bytes flushed", "renamed", "folder flushed"]


class BrokenError(Exception):
    pass


def breaks(*_args, **_kwargs):
    raise BrokenError


def half_written(_document, stream, **_options):
    stream.write('{"new": ')
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("where", "what", "breaking", "error"),
    [
        (json, "dump", half_written, OSError),
        (os, "fsync", breaks, BrokenError),
        (Path, "replace", breaks, BrokenError),
    ],
    ids=["disk full", "flush", "rename"],
)
def test_a_write_that_fails_leaves_the_old_document_and_no_litter(
    tmp_path, monkeypatch, where, what, breaking, error
):
    write_durably(tmp_path / "doc.json", {"old": 1})
    monkeypatch.setattr(where, what, breaking)
    with pytest.raises(error):
        write_durably(tmp_path / "doc.json", {"new": 2})
    monkeypatch.undo()
    assert read_document(tmp_path / "doc.json") == {"old": 1}
    assert names_in(tmp_path) == ["doc.json"]


def test_a_signal_in_the_middle_leaves_the_old_document(tmp_path, monkeypatch):
    def stopped(*_args, **_kwargs):
        raise Interrupted(15)

    write_durably(tmp_path / "doc.json", {"old": 1})
    monkeypatch.setattr(json, "dump", stopped)
    with pytest.raises(Interrupted):
        write_durably(tmp_path / "doc.json", {"new": 2})
    assert read_document(tmp_path / "doc.json") == {"old": 1}
    assert names_in(tmp_path) == ["doc.json"]


def test_when_only_the_folder_cannot_be_flushed_the_new_document_is_there_and_the_caller_told(
    tmp_path, monkeypatch
):
    real_fsync = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")
        real_fsync(handle)

    write_durably(tmp_path / "doc.json", {"old": 1})
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        write_durably(tmp_path / "doc.json", {"new": 2})
    assert read_document(tmp_path / "doc.json") == {"new": 2}
    assert names_in(tmp_path) == ["doc.json"]


@pytest.mark.parametrize("document", [{"a": float("nan")}, {"a": float("inf")}, {"a": object()}])
def test_what_json_cannot_hold_is_refused_and_the_old_document_stays(tmp_path, document):
    write_durably(tmp_path / "doc.json", {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_durably(tmp_path / "doc.json", document)
    assert read_document(tmp_path / "doc.json") == {"old": 1}
    assert names_in(tmp_path) == ["doc.json"]


def test_a_file_where_the_folder_should_be_is_an_os_error(tmp_path):
    (tmp_path / "state").write_text("x")
    with pytest.raises(OSError, match="state"):
        write_durably(tmp_path / "state" / "doc.json", {})


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b'{"a": 1', b"\x00\x00\x00", b"\xff\xfe", b"[1, 2]", b'"text"', b"null", b"7", b"NaN"],
)
def test_a_damaged_document_is_an_empty_one(tmp_path, damage):
    (tmp_path / "doc.json").write_bytes(damage)
    assert read_document(tmp_path / "doc.json") == {}


def test_a_missing_document_is_an_empty_one(tmp_path):
    assert read_document(tmp_path / "nowhere" / "doc.json") == {}
    assert read_document(tmp_path) == {}


def changed_ns(path):
    found = path.stat()
    return max(found.st_mtime_ns, found.st_ctime_ns)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def memory(tmp_path):
    """Open the memory at so many nanoseconds after a file was changed."""

    def opened(path, age_ns=RACY_NS):
        begun = changed_ns(path) + age_ns
        return HashMemory(tmp_path / "hashes.json", now_ns=lambda: begun)

    return opened


def test_a_hash_is_remembered_across_runs(weights, memory):
    first = memory(weights)
    first.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert first.recall(weights, "sha256") == "abc"
    first.save()
    assert memory(weights).recall(weights, "sha256") == "abc"


def test_each_kind_of_hash_is_remembered_by_itself(weights, memory):
    kept = memory(weights)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert kept.recall(weights, "xet") is None
    kept.keep(weights, "xet", "def", Stamp.of(weights))
    assert (kept.recall(weights, "sha256"), kept.recall(weights, "xet")) == ("abc", "def")


def test_a_file_is_only_remembered_under_its_own_name(weights, memory, tmp_path):
    kept = memory(weights)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    (tmp_path / "other").write_bytes(b"weights")
    assert kept.recall(tmp_path / "other", "sha256") is None


def test_a_file_two_seconds_old_is_remembered(weights, memory):
    kept = memory(weights, 2 * SECOND_NS)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert kept.recall(weights, "sha256") == "abc"


@pytest.mark.parametrize("age_ns", [2 * SECOND_NS - 1, SECOND_NS, 0, -SECOND_NS, -3600 * SECOND_NS])
def test_a_file_that_may_change_without_its_stamp_changing_is_not_remembered(weights, memory, age_ns):
    kept = memory(weights, age_ns)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert kept.recall(weights, "sha256") is None
    kept.save()
    assert memory(weights, age_ns).recall(weights, "sha256") is None


@pytest.mark.parametrize("offset_s", [-1_000_000, 1_000_000])
def test_the_younger_of_the_two_times_counts(weights, tmp_path, offset_s):
    """An old mtime does not vouch for a young ctime; an mtime in the future makes a file young."""
    now_s = weights.stat().st_ctime_ns // SECOND_NS
    os.utime(weights, (now_s + offset_s, now_s + offset_s))
    begun = weights.stat().st_ctime_ns + SECOND_NS
    kept = HashMemory(tmp_path / "hashes.json", now_ns=lambda: begun)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert kept.recall(weights, "sha256") is None


def test_age_is_counted_from_the_moment_the_memory_was_opened(weights, tmp_path):
    times = iter([changed_ns(weights), changed_ns(weights) + 3600 * SECOND_NS])
    kept = HashMemory(tmp_path / "hashes.json", now_ns=lambda: next(times))
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert kept.recall(weights, "sha256") is None


def test_a_rewritten_file_is_forgotten(weights, memory):
    kept = memory(weights)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    weights.write_bytes(b"other weights")
    assert kept.recall(weights, "sha256") is None


def test_a_replaced_file_of_the_same_size_and_time_is_forgotten(weights, memory, tmp_path):
    kept = memory(weights)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    before = weights.stat()
    (tmp_path / "new").write_bytes(b"WEIGHTS")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(weights)
    assert kept.recall(weights, "sha256") is None


def sealed(document):
    """What a memory would have written, had it known this."""
    for entry in document.values():
        del entry["seal"]
        entry["seal"] = hashes._seal(entry)
    return document


def test_a_hash_that_the_disk_has_bent_is_not_believed(weights, memory, tmp_path):
    first = memory(weights)
    first.keep(weights, "sha256", "abc", Stamp.of(weights))
    first.save()
    text = (tmp_path / "hashes.json").read_text()
    assert memory(weights).recall(weights, "sha256") == "abc"
    (tmp_path / "hashes.json").write_text(text.replace('"abc"', '"abd"'))
    assert memory(weights).recall(weights, "sha256") is None


def test_of_very_many_files_the_newest_are_remembered(memory, tmp_path, weights, monkeypatch):
    monkeypatch.setattr(hashes, "_MOST_FILES", 2)
    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.write_bytes(path.name.encode())
    kept = memory(files[-1], 3600 * SECOND_NS)
    for path in files:
        kept.keep(path, "sha256", path.name, Stamp.of(path))
    kept.keep(files[0], "xet", "x", Stamp.of(files[0]))
    kept.save()
    again = memory(files[-1], 3600 * SECOND_NS)
    assert [again.recall(path, "sha256") for path in files] == ["a", None, "c"]
    assert again.recall(files[0], "xet") == "x"


@pytest.mark.parametrize("part", range(5), ids=["size", "mtime", "ctime", "inode", "device"])
def test_every_part_of_the_stamp_counts(weights, memory, tmp_path, part):
    first = memory(weights)
    first.keep(weights, "sha256", "abc", Stamp.of(weights))
    first.save()
    document = json.loads((tmp_path / "hashes.json").read_text())
    document[str(weights)]["stamp"][part] += 1
    (tmp_path / "hashes.json").write_text(json.dumps(sealed(document)))
    assert memory(weights).recall(weights, "sha256") is None


def test_a_new_state_of_a_file_drops_all_hashes_of_the_old_one(weights, memory):
    kept = memory(weights, 3600 * SECOND_NS)
    kept.keep(weights, "sha256", "old", Stamp.of(weights))
    kept.keep(weights, "xet", "old", Stamp.of(weights))
    weights.write_bytes(b"longer weights")
    kept.keep(weights, "sha256", "new", Stamp.of(weights))
    assert (kept.recall(weights, "sha256"), kept.recall(weights, "xet")) == ("new", None)


@pytest.mark.parametrize(
    "entry",
    [None, [], "abc", 7, {}, {"stamp": None}, {"stamp": "x", "sha256": "abc"}, {"sha256": "abc"}],
)
def test_a_damaged_entry_remembers_nothing_and_can_be_mended(weights, memory, tmp_path, entry):
    (tmp_path / "hashes.json").write_text(json.dumps({str(weights): entry}))
    kept = memory(weights)
    assert kept.recall(weights, "sha256") is None
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    assert kept.recall(weights, "sha256") == "abc"


@pytest.mark.parametrize("value", [None, 7, [], {}])
def test_a_damaged_hash_is_none(weights, memory, tmp_path, value):
    first = memory(weights)
    first.keep(weights, "sha256", "abc", Stamp.of(weights))
    first.save()
    document = json.loads((tmp_path / "hashes.json").read_text())
    document[str(weights)]["sha256"] = value
    (tmp_path / "hashes.json").write_text(json.dumps(sealed(document)))
    assert memory(weights).recall(weights, "sha256") is None


def test_nothing_is_written_when_nothing_was_learnt(weights, memory, tmp_path):
    memory(weights).save()
    assert not (tmp_path / "hashes.json").exists()


def test_a_memory_that_cannot_be_written_costs_a_warning_only(weights, tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    begun = changed_ns(weights) + RACY_NS
    kept = HashMemory(tmp_path / "state" / "hashes.json", now_ns=lambda: begun)
    kept.keep(weights, "sha256", "abc", Stamp.of(weights))
    with capture_logs() as logs:
        kept.save()
    assert [(line["event"], line["log_level"]) for line in logs] == [("hashes not remembered", "warning")]
    assert kept.recall(weights, "sha256") == "abc"
