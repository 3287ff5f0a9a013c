"""What is remembered of content that was brought to a repo's storage: right or not at all."""

from __future__ import annotations

import json
import os

import pytest
from structlog.testing import capture_logs

from agent import delivered
from agent.delivered import Content, Delivered, sketch_of

HERE, ELSEWHERE = "https://hub.example ada/model", "https://hub.example ada/other"
ONE = Content("11" * 32, "aa" * 32, 5120, "cc" * 32)
TWO = Content("22" * 32, "bb" * 32, 10, "dd" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "delivered.json"


def remembered(path, *contents, where=HERE):
    one = Delivered(path, where)
    for content in contents:
        one.keep(content)
    one.save()
    return Delivered(path, where)


def test_what_was_delivered_is_known_to_the_next_process(path):
    again = remembered(path, ONE, TWO)
    assert (again.get(ONE.sha256), again.get(TWO.sha256)) == (ONE, TWO)
    assert again.get("33" * 32) is None


def test_what_one_repo_has_another_one_does_not(path):
    remembered(path, ONE)
    assert Delivered(path, ELSEWHERE).get(ONE.sha256) is None


def test_what_others_wrote_meanwhile_is_kept(path):
    mine, others = Delivered(path, HERE), Delivered(path, ELSEWHERE)
    mine.keep(ONE)
    others.keep(TWO)
    others.save()
    mine.save()
    assert Delivered(path, HERE).get(ONE.sha256) == ONE
    assert Delivered(path, ELSEWHERE).get(TWO.sha256) == TWO


def test_what_turned_out_to_be_wrong_is_forgotten_of_all_repos(path):
    remembered(path, TWO, where=ELSEWHERE)
    mine = remembered(path, ONE)
    mine.forget()
    assert mine.get(ONE.sha256) is None
    assert json.loads(path.read_text()) == {}
    mine.keep(ONE)
    mine.save()
    assert Delivered(path, HERE).get(ONE.sha256) == ONE
    assert Delivered(path, ELSEWHERE).get(TWO.sha256) is None


def test_the_oldest_of_too_many_are_forgotten_first(path, monkeypatch):
    monkeypatch.setattr(delivered, "_MOST_FILES", 3)
    many = [Content(f"{number:064}", "aa" * 32, 1, "") for number in range(5)]
    again = remembered(path, *many, many[0])  # delivered once more: it is no longer the oldest
    assert [one for one in many if again.get(one.sha256)] == [many[0], many[3], many[4]]


def test_of_too_many_repos_those_that_were_written_last_are_kept(path, monkeypatch):
    monkeypatch.setattr(delivered, "_MOST_REPOS", 3)
    for where in ("a", "b", "c", "b"):
        remembered(path, ONE, where=where)
    assert [*json.loads(path.read_text())] == ["a", "c", "b"]
    remembered(path, ONE, where="d")
    assert [*json.loads(path.read_text())] == ["c", "b", "d"]


def known_of(path):
    again = Delivered(path, HERE)
    assert {*again._contents.values()} <= {ONE, TWO}
    return [again.get(one.sha256) for one in (ONE, TWO)]


def test_a_bit_that_flipped_anywhere_costs_an_entry_and_never_makes_it_another(path):
    remembered(path, ONE, TWO)
    whole = path.read_bytes()
    hit = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        found = known_of(path)
        assert all(got in {None, meant} for got, meant in zip(found, (ONE, TWO), strict=True)), position
        hit += None in found
    assert hit > 200  # the others were in white space, or in the name of a repo


@pytest.mark.parametrize("tenth", range(10))
def test_a_document_cut_anywhere_is_none(path, tenth):
    remembered(path, ONE, TWO)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    assert known_of(path) == [None, None]
    assert remembered(path, ONE).get(ONE.sha256) == ONE


@pytest.mark.parametrize(
    "document",
    [
        "[]", "null", "7", '{"WHERE": 3}', '{"WHERE": ["a"]}', '{"WHERE": {"x": null}}',
        '{"WHERE": {"x": ["a", 1, "b"]}}', '{"WHERE": {"x": ["a", "1", "b", "c"]}}',
        '{"WHERE": {"x": ["a", 1, "b", "c"]}}', '{"WHERE": {"x": [1, 1, 1, 1]}}',
        '{"WHERE": {"x": ["a", true, "b", 4.5]}}',
    ],
)  # fmt: skip
def test_a_document_of_another_shape_is_none(path, document):
    path.parent.mkdir()
    path.write_text(document.replace("WHERE", HERE))
    assert Delivered(path, HERE).get("x") is None
    assert remembered(path, ONE).get(ONE.sha256) == ONE


def test_a_folder_that_takes_nothing_is_said_and_stops_nothing(tmp_path):
    one = Delivered(tmp_path / "a file" / "delivered.json", HERE)
    (tmp_path / "a file").touch()
    one.keep(ONE)
    with capture_logs() as said:
        one.save()
        one.forget()
    assert [line["event"] for line in said] == ["not remembered what was sent"] * 2


SIZE = 16 * 65_536


@pytest.fixture
def delivered_file(path, tmp_path):
    """A file of a megabyte that was delivered, and what is remembered of it."""
    source = tmp_path / "checkpoint.bin"
    source.write_bytes(os.urandom(SIZE))
    known = Content("11" * 32, "aa" * 32, SIZE, sketch_of(source, SIZE))
    return source, remembered(path, known)


def changed(source, position):
    content = bytearray(source.read_bytes())
    content[position] ^= 1
    copy = source.with_name("another.bin")
    copy.write_bytes(content)
    return copy


def test_the_same_bytes_under_another_name_are_worth_being_hashed(delivered_file, tmp_path):
    source, known = delivered_file
    (tmp_path / "final.bin").write_bytes(source.read_bytes())
    assert known.resembles(tmp_path / "final.bin", SIZE)


@pytest.mark.parametrize("position", [0, SIZE - 1, (SIZE - 4096) * 7 // 15])
def test_other_bytes_at_the_begin_the_end_or_a_fifteenth_tell_a_file_apart(delivered_file, position):
    source, known = delivered_file
    assert not known.resembles(changed(source, position), SIZE)


def test_other_bytes_elsewhere_do_not_before_it_is_hashed(delivered_file):
    source, known = delivered_file
    assert known.resembles(changed(source, 5000), SIZE)


def test_a_file_of_another_size_is_not_even_opened(delivered_file, tmp_path):
    _, known = delivered_file
    assert not known.resembles(tmp_path / "there is none", SIZE + 1)


def test_a_sketch_reads_little_of_a_file_of_any_size(tmp_path):
    """A terabyte with nothing in it: to read it would take the night."""
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(10**12)
    assert len(sketch_of(tmp_path / "large", 10**12)) == 64


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 70_000])
def test_a_small_file_has_a_sketch_that_tells_every_byte(tmp_path, size):
    source = tmp_path / "small"
    source.write_bytes(bytes(size))
    seen = {sketch_of(source, size)}
    for position in {0, size // 2, size - 1} & set(range(min(size, 4097))):
        seen.add(sketch_of(changed(source, position), size))
    assert len(seen) == 1 + len({0, size // 2, size - 1} & set(range(min(size, 4097))))


def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Illegal seek"):
        sketch_of(tmp_path / "pipe", 10)
