"""Which files storage has already: told by what is remembered, and never more often read than once."""

from __future__ import annotations

import hashlib
import sys

import pytest

from agent.artifact.files import LocalFile
from agent.delivered import Content, Delivered, sketch_of
from agent.hashes import HashMemory, Stamp
from agent.hub.files import Piece, Stored
from agent.recognition import Recognition

LATER_NS = 10**19  # nothing written by now is young at this moment


class Folder:
    """Some files, what is remembered of them, and how often one was read to its end."""

    def __init__(self, home, monkeypatch):
        self.home, self.moved = home, 0
        self.memory = HashMemory(home / "hashes.json", lambda: LATER_NS)
        self.delivered = Delivered(home / "delivered.json", "here")
        self.files = []
        self.read = []
        monkeypatch.setattr(sys.modules["agent.artifact.digest"], "sha256_of", self._read)

    def add(self, name, content):
        source = self.home / name
        source.write_bytes(content)
        self.files.append(LocalFile(name, source, Stamp.of(source)))
        return Piece(name, source, len(content))

    def was_delivered(self, content, *, size_bytes=None):
        copy = self.home / "sent before"
        copy.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        size = len(content) if size_bytes is None else size_bytes
        self.delivered.keep(Content(sha256, "xet of it", size, sketch_of(copy, len(content))))

    def recognition(self, **known):
        return Recognition(self.files, self.memory, self.delivered, known=known, moved=self._moved)

    def _moved(self):
        self.moved += 1

    def _read(self, file):
        self.read.append(file.path)
        return hashlib.sha256(file.source.read_bytes()).hexdigest()


@pytest.fixture
def here(tmp_path, monkeypatch):
    return Folder(tmp_path, monkeypatch)


SHA256 = hashlib.sha256(b"weights").hexdigest()
STORED = Stored("a.bin", 7, SHA256, xet_hash="xet of it")


def test_an_unchanged_file_that_was_delivered_is_known_without_being_read(here):
    piece = here.add("a.bin", b"weights")
    here.was_delivered(b"weights")
    here.memory.keep(piece.source, "sha256", SHA256, here.files[0].stamp)
    assert here.recognition().at_once([piece]) == {"a.bin": STORED}
    assert here.read == []


def test_a_file_that_was_read_in_this_run_is_known_however_young_it_is(here):
    piece = here.add("a.bin", b"weights")
    here.was_delivered(b"weights")
    assert here.recognition(**{"a.bin": SHA256}).at_once([piece]) == {"a.bin": STORED}
    assert here.recognition().at_once([piece]) == {}


def test_a_file_that_was_written_since_is_not_known(here):
    piece = here.add("a.bin", b"weights")
    here.was_delivered(b"weights")
    here.memory.keep(piece.source, "sha256", SHA256, here.files[0].stamp)
    here.home.joinpath("a.bin").unlink()
    here.home.joinpath("a.bin").write_bytes(b"another")
    assert here.recognition().at_once([piece]) == {}


def test_a_hash_alone_is_no_delivery(here):
    piece = here.add("a.bin", b"weights")
    here.memory.keep(piece.source, "sha256", SHA256, here.files[0].stamp)
    assert here.recognition().at_once([piece]) == {}


def test_content_of_another_size_is_not_this_file(here):
    piece = here.add("a.bin", b"weights")
    here.was_delivered(b"weights", size_bytes=8)
    assert here.recognition(**{"a.bin": SHA256}).at_once([piece]) == {}


def test_what_looks_alike_is_read_once_however_often_it_is_asked(here):
    pieces = [here.add("a.bin", b"weights"), here.add("b.bin", b"another"), here.add("c.bin", b"else!!")]
    here.was_delivered(b"weights")
    one = here.recognition()
    assert one.alike(pieces) == {"a.bin"}
    assert here.read == []
    assert one.by_reading(pieces[:1]) == one.by_reading(pieces[:1]) == {"a.bin": STORED}
    assert (here.read, here.moved) == (["a.bin"], 1)
    assert (one.sha256("a.bin"), one.sha256("b.bin")) == (SHA256, None)


def test_what_only_looked_alike_is_not_found_and_its_hash_is_known_all_the_same(here):
    piece = here.add("a.bin", b"another")
    here.was_delivered(b"weights")
    one = here.recognition()
    assert one.by_reading([piece]) == {}
    assert one.sha256("a.bin") == hashlib.sha256(b"another").hexdigest()


def test_after_all_was_forgotten_nothing_is_found_any_more(here):
    piece = here.add("a.bin", b"weights")
    here.was_delivered(b"weights")
    one = here.recognition()
    assert one.by_reading([piece])
    here.delivered.forget()
    assert one.by_reading([piece]) == {}
    assert here.read == ["a.bin"]


def test_what_was_delivered_now_is_remembered_and_what_went_another_way_is_not(here):
    here.add("a.bin", b"weights")
    here.add("b.bin", b"by plain LFS")
    by_lfs = Stored("b.bin", 12, "22" * 32)
    here.recognition().keep([STORED, by_lfs, Stored("made here.json", 2, "33" * 32, blob=b"{}")])
    assert here.delivered.get("22" * 32) is None
    again = Delivered(here.home / "delivered.json", "here")
    sketch = sketch_of(here.home / "a.bin", 7)
    assert again.get(SHA256) == Content(SHA256, "xet of it", 7, sketch)
    assert again.get("22" * 32) is again.get("33" * 32) is None


def test_what_was_delivered_before_is_not_looked_at_again(here):
    here.add("a.bin", b"weights").source.unlink()
    here.was_delivered(b"weights")
    here.recognition().keep([STORED])
    assert Delivered(here.home / "delivered.json", "here").get(SHA256)


def test_a_file_that_vanished_is_an_error_of_the_disk(here):
    piece = here.add("a.bin", b"weights")
    here.memory.keep(piece.source, "sha256", SHA256, here.files[0].stamp)
    piece.source.unlink()
    with pytest.raises(FileNotFoundError):
        here.recognition().at_once([piece])
