"""When a file is complete: left alone for a while, and open for writing in no process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from agent.artifact.files import LocalFile
from agent.hashes import RACY_NS, Stamp
from agent.warm.settled import SETTLED_NS, are_settled


def listed(path, **stamp):
    return LocalFile(path.name, path, replace(Stamp.of(path), **stamp))


def later(*files):
    """A moment at which all of them were left alone for long enough."""
    return max(max(file.stamp.mtime_ns, file.stamp.ctime_ns) for file in files) + SETTLED_NS


@pytest.fixture
def file(tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    return listed(tmp_path / "weights")


def test_a_closed_file_is_settled_after_a_while_and_not_before(file):
    assert are_settled([file], later(file))
    assert not are_settled([file], later(file) - 1)


def test_the_while_is_long_enough_for_its_hash_to_be_remembered():
    assert SETTLED_NS > RACY_NS


def test_no_files_are_nothing_to_be_sent():
    assert not are_settled([], 2**63)


@pytest.mark.parametrize("kind", ["mtime_ns", "ctime_ns"])
def test_a_file_with_old_times_that_was_only_now_put_there_is_young(file, kind):
    """`cp -p` sets the one back, nobody the other."""
    others = {"mtime_ns": 0, "ctime_ns": 0} | {kind: 10**18}
    young = replace(file, stamp=replace(file.stamp, **others))
    assert not are_settled([young], 10**18 + SETTLED_NS - 1)
    assert are_settled([young], 10**18 + SETTLED_NS)


def test_one_young_file_holds_the_others_back(file, tmp_path):
    (tmp_path / "config.json").touch()
    young = listed(tmp_path / "config.json", mtime_ns=later(file))
    assert not are_settled([file, young], later(file))


def test_a_clock_that_was_set_back_waits_until_it_is_right_again(file):
    assert not are_settled([file], file.stamp.mtime_ns - 10**12)


@pytest.mark.parametrize(("mode", "is_settled"), [("rb", True), ("ab", False), ("r+b", False)])
def test_a_file_that_this_process_has_open(file, mode, is_settled):
    with file.source.open(mode):
        assert are_settled([file], later(file)) == is_settled
    assert are_settled([file], later(file))


HOLD = """
import sys
stream = open(sys.argv[1], sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("mode", "is_settled"), [("rb", True), ("ab", False)])
def test_a_file_that_another_process_has_open(file, mode, is_settled):
    command = [sys.executable, "-c", HOLD, str(file.source), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        assert are_settled([file], later(file)) == is_settled
        other.stdin.close()
        other.wait()
    assert are_settled([file], later(file))


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_file_that_is_written_under_another_name(file, tmp_path, link):
    other = tmp_path / "another name"
    getattr(other, link)(file.source)
    with other.open("ab"):
        assert not are_settled([listed(file.source)], later(file) + 10**12)


def test_a_file_that_is_written_beside_it_is_not_meant(file, tmp_path):
    with (tmp_path / "train.log").open("ab"):
        assert are_settled([file], later(file))


def test_a_file_that_was_renamed_while_it_is_written(tmp_path):
    half = tmp_path / "weights.tmp"
    with half.open("wb"):
        half.rename(tmp_path / "weights")
        file = listed(tmp_path / "weights")
        assert not are_settled([file], later(file))


def test_what_is_open_and_no_file_is_passed_over(file):
    reading, writing = os.pipe()
    try:
        assert are_settled([file], later(file))
    finally:
        os.close(reading)
        os.close(writing)
