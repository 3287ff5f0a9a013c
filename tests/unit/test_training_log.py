"""What a training prints: passed through to the byte, kept within bounds, without secrets."""

from __future__ import annotations

import os
import threading

import pytest

from agent import log
from agent.pod.output import Stream, TrainingLog

SECRET = "a-secret-of-the-user-4711"


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setattr(log, "_known", log.spellings(SECRET))


def through(text, tmp_path, **options):
    """Send a text through a stream: what came out, and the log."""
    kept = TrainingLog(tmp_path / "training.log", **options)
    source, ours = os.pipe()
    back, sink = os.pipe()
    stream = Stream(source, sink, kept)
    got = []
    reader = threading.Thread(target=lambda: got.extend(iter(lambda: os.read(back, 65536), b"")))
    reader.start()
    with os.fdopen(ours, "wb") as out:
        out.write(text)
    stream.settle(10)
    os.close(sink)
    reader.join(10)
    os.close(back)
    return b"".join(got), kept


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"one line\n",
        b"no end",
        b"\x00\xff\xfe not text \x80\n",
        b"50%\r51%\r52%\n",
        b"x" * 300_000,
        b"hf_abcdefghijklmnopqrstuvwxyz\n",
        b"line\n" * 100_000,
    ],
)
def test_every_byte_comes_out_as_it_went_in(text, tmp_path):
    assert through(text, tmp_path)[0] == text


@pytest.mark.parametrize(
    "secret",
    [SECRET, "hf_abcdefghijklmnopqrstuvwxyz", "ghp_abcdefghijklmnopqrstuv", "Bearer abc.def-1234567890"],
)
def test_no_secret_is_kept_wherever_it_is_cut(secret, tmp_path):
    plain = secret.removeprefix("Bearer ").encode()
    for before in (0, 65_536 - 10, 65_536 * 2 - 3):
        text = b"x" * before + b" " + secret.encode() + b" loss 0.5\n"
        passed, kept = through(text, tmp_path / str(before))
        assert passed == text
        assert plain not in kept.path.read_bytes()
        assert not [line for line in kept.last_lines if plain.decode() in line]
        assert b"[hidden]" in kept.path.read_bytes()


def test_every_form_of_a_token_begins_with_a_sign_that_is_looked_for():
    """The quick look before the search must not pass over anything the search would find."""
    examples = (
        "hf_abcdefghijklmnopqrstuv", "hf_oauth_abcdefghijklmnopqrstuv", "sb_secret_abcdefgh12",
        "ghp_abcdefghijklmnopqrstuv", "gho_abcdefghijklmnopqrstuv", "ghu_abcdefghijklmnopqrstuv",
        "ghs_abcdefghijklmnopqrstuv", "ghr_abcdefghijklmnopqrstuv", "github_pat_abcdefghijklmnopqrstuv",
        "eyJabcdefghij.abcdefghij.x", "Bearer abcdefghijk1234",
    )  # fmt: skip
    for example in examples:
        assert log.redact(example) != example
        assert log.may_look_secret(example.encode())
    assert len(examples) == len(log._SIGNS) + 1
    assert not log.may_look_secret(b"step 17 loss 0.25 high of the eye")


def test_the_log_stays_within_its_bounds_and_holds_the_newest(tmp_path):
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    _, kept = through(text, tmp_path, largest_bytes=50_000)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["training.log", "training.log.1"]
    assert all(path.stat().st_size <= 120_000 for path in files)  # a chunk is kept whole
    assert b"line 19999\n" in kept.path.read_bytes()


def test_the_last_lines_are_fifty_each_as_it_was_drawn_last(tmp_path):
    text = b"".join(b"line %d\n" % number for number in range(200)) + b"\n 50%\r 51%\r100%\r\nTraceback\nend"
    _, kept = through(text, tmp_path)
    assert len(kept.last_lines) == 50
    assert kept.last_lines[-4:] == ["line 199", "100%", "Traceback", "end"]


def test_a_log_that_was_there_tells_its_last_lines_until_something_new_begins(tmp_path):
    through(b"what it died of\n", tmp_path)
    again = TrainingLog(tmp_path / "training.log")
    assert again.last_lines == ["what it died of"]
    again.begin()
    assert again.last_lines == []


def test_a_reader_that_goes_away_costs_nothing_but_its_own_output(tmp_path):
    kept = TrainingLog(tmp_path / "training.log")
    source, ours = os.pipe()
    back, sink = os.pipe()
    os.close(back)
    stream = Stream(source, sink, kept)
    with os.fdopen(ours, "wb") as out:
        out.write(b"line\n" * 100_000)
    stream.settle(10)
    os.close(sink)
    assert kept.path.read_bytes() == b"line\n" * 100_000


def test_a_folder_that_takes_no_log_costs_the_log_only(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    text = b"what it died of\n"
    passed, kept = through(text, tmp_path / "file")
    assert passed == text
    assert kept.last_lines == ["what it died of"]
