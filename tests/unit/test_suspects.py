"""Small files are searched together, and nothing that a search of each would find is lost by it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact import files as artifact_files
from agent.artifact import suspects as module
from agent.artifact.files import LocalFile, small_contents
from agent.artifact.secrets import scan
from agent.artifact.suspects import suspects
from agent.hashes import Stamp
from tests.unit.test_secrets import TOKEN, each_format

KNOWN = b"correct horse battery"
PLAIN = "Ordinary words, a_long_identifier_of_code_42 and https://example.org/a/path/that/goes/on\n"


def stock(folder: Path, contents: list[str | bytes]) -> list[LocalFile]:
    found = []
    for number, content in enumerate(contents):
        source = folder / f"{number:03}.txt"
        source.write_bytes(content.encode() if isinstance(content, str) else content)
        found.append(LocalFile(source.name, source, Stamp.of(source)))
    return found


def open_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_with_nothing_in_them_are_not_searched_singly(tmp_path):
    assert list(suspects(stock(tmp_path, [PLAIN] * 50 + [""]), [KNOWN])) == []


@each_format
@settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_credential_is_found_in_the_one_file_that_holds_it(tmp_path, kind, tokens, data):
    contents: list[str | bytes] = [PLAIN.rstrip() * data.draw(st.integers(0, 3)) for _ in range(20)]
    at = data.draw(st.integers(0, 19))
    contents[at] = data.draw(tokens)
    found = list(scan(stock(tmp_path, contents), []))
    assert {one.path for one in found} == {f"{at:03}.txt"}
    assert any(kind in one.message for one in found)


PIECES = [
    TOKEN, TOKEN[:15], TOKEN[15:], "hf_", "wandb login ", "0123456789abcdef" * 3, "aws_secret_access_key=",
    "a" * 40, "x" * 19, "A1" * 9, "\n", " ", "é", "\0", ("-----BEGIN RSA PRIVATE " "KEY-----\n"),
    KNOWN.decode(), PLAIN, "MTA5NjE1NDk3MjY0MjY1OTkxMA", ".abcdef.", "Q1w2E3r4T5y6U7i8O9p0Q1w2E3r",
]  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=12),
    together=st.sampled_from([1, 100, 10_000]),
)
def test_together_the_same_is_found_as_singly(tmp_path, monkeypatch, contents, together):
    found = stock(tmp_path, contents)
    with monkeypatch.context() as changed:
        changed.setattr("agent.artifact.secrets.suspects", lambda files, _known: iter(files))
        singly = list(scan(found, [KNOWN.decode()]))
    with monkeypatch.context() as changed:
        changed.setattr(module, "_TOGETHER", together)
        assert list(scan(found, [KNOWN.decode()])) == singly


def test_a_credential_far_behind_other_runs_of_characters_is_found(tmp_path):
    files = stock(tmp_path, ["A1" * 20 + " . " * 200 + TOKEN, PLAIN])
    assert list(suspects(files, [])) == [files[0]]


def test_a_path_is_searched_too(tmp_path):
    files = stock(tmp_path, [PLAIN] * 10)
    leaking = LocalFile(f"samples/{TOKEN}.txt", files[4].source, files[4].stamp)
    assert list(suspects([*files, leaking, *files], [])) == [leaking]


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"x", mtime=0x01010101), TOKEN.encode("utf-16"), b"PK\3\4" + b"x" * 40, b"text\0text"],
)
def test_what_is_no_plain_text_is_always_searched_singly(tmp_path, content):
    files = stock(tmp_path, [PLAIN, content, PLAIN])
    assert list(suspects(files, [])) == [files[1]]


def test_a_large_file_and_one_that_is_longer_than_it_was_are_searched_singly(tmp_path):
    large, grown, cut, plain = stock(tmp_path, ["a b " * 17_000, PLAIN, PLAIN, PLAIN])
    grown.source.write_text(PLAIN + "more")
    cut.source.write_text("less")
    assert list(suspects([large, grown, cut, plain], [])) == [large, grown, cut]


def test_the_files_stay_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TOGETHER", 300)
    files = stock(tmp_path, [TOKEN if number % 3 else b"\0" * 8 for number in range(40)])
    assert list(suspects(files, [])) == files


@pytest.mark.parametrize("what", ["missing", "fifo", "folder"])
def test_what_took_the_place_of_a_file_is_an_error_and_nothing_stays_open(tmp_path, what):
    files = stock(tmp_path, [PLAIN] * 30)
    files[20].source.unlink()
    if what == "fifo":
        os.mkfifo(files[20].source)
    elif what == "folder":
        files[20].source.mkdir()
    before = open_handles()
    with pytest.raises(OSError, match=r"020\.txt"):
        list(suspects(files, []))
    assert open_handles() == before


def test_no_more_files_are_open_than_promised_and_none_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_files, "_AHEAD", 4)
    reading = small_contents(stock(tmp_path, [PLAIN] * 30), 1000)
    before = open_handles()
    assert [next(reading)[1] for _ in range(3)] == [PLAIN.encode()] * 3
    assert open_handles() == before + 4
    reading.close()
    assert open_handles() == before


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_where_no_advice_is_taken_files_are_read_all_the_same(tmp_path, monkeypatch, error):
    def refused(*_: int) -> None:
        raise error

    monkeypatch.setattr(os, "posix_fadvise", refused)
    assert [content for _, content in small_contents(stock(tmp_path, ["a", "b"]), 10)] == [b"a", b"b"]
