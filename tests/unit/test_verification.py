"""What `verify` makes of manifests, sections, listings and beginnings of files, without any Hub."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from agent.card import Listed, make_manifest, read_manifest
from agent.card.about import About, about
from agent.card.section import BEGIN, END
from agent.errors import ConfigError
from agent.hub.download import NotServedError, Served, _Reading
from agent.hub.repo import Entry
from agent.hub.verify import contradicts, git_blob_id
from agent.verification import outline, witness
from agent.verification.flaws import Cures, Flaw
from agent.verification.past import Past

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
IDENTITY = {"job": JOB, "finalize_id": "f" * 64, "repo_id": "ada/m"}
ONE = {"path": "a", "size": 1, "sha256": "1" * 64}


def document(**change):
    return json.dumps({"schema": 1, **IDENTITY, "files": [ONE], **change}).encode()


def test_a_manifest_is_read_back_as_it_was_made():
    made = make_manifest(
        files=[("b", 2, "2" * 64), ("a", 1, "1" * 64)],
        identity=IDENTITY,
        training={},
        versions={},
        blob_ids={"a": "3" * 40},
        xet_hashes={"b": "4" * 64},
    )
    read = read_manifest(made)
    assert (read.job, read.finalize_id, read.repo_id, read.tag) == (JOB, "f" * 64, "ada/m", "job-7d9f5f5c")
    assert read.files == (
        Listed("a", 1, "1" * 64, blob_id="3" * 40),
        Listed("b", 2, "2" * 64, xet_hash="4" * 64),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        document(schema=2),
        document(job="j"),
        document(job=f"$(x){JOB[4:]}"),
        document(finalize_id="f"),
        document(repo_id=""),
        document(files=[]),
        document(files={}),
        document(files=[ONE, ONE]),
        document(files=[None]),
        document(files=[ONE | {"path": ""}]),
        document(files=[ONE | {"path": 1}]),
        document(files=[ONE | {"size": -1}]),
        document(files=[ONE | {"size": True}]),
        document(files=[ONE | {"size": 1.5}]),
        document(files=[ONE | {"sha256": None}]),
        document(files=[ONE | {"sha256": "1" * 63}]),
        document(files=[ONE | {"blob_id": "1" * 64}]),
        document(files=[ONE | {"xet_hash": "1" * 40}]),
        document(files=[ONE | {"blob_id": 7}]),
    ],
)
def test_what_is_no_manifest_is_refused(content):
    with pytest.raises(ValueError, match=r"^is (damaged: |no manifest of schema 1)"):
        read_manifest(content)


def section(job=JOB, tag="job-7d9f5f5c", end="\n"):
    return (
        f"{BEGIN}{end}## About this model{end}{end}| Job | `{job}` |{end}"
        f"| Files | proven at [`{tag}`](https://hub/ada/m/tree/{tag}), hashes |{end}{END}{end}"
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_our_section_tells_whose_publication_it_is(end):
    assert about(f"# Mine{end}{end}{section(end=end)}{end}More.") == About(JOB, "job-7d9f5f5c")


def test_words_outside_of_our_section_tell_nothing():
    elsewhere = "| Job | `00000000-1111-4a3b-9c5e-0123456789ab` |\n[x](https://hub/ada/m/tree/job-00000000)\n"
    assert about(f"{elsewhere}\n{section()}\n{elsewhere}") == About(JOB, "job-7d9f5f5c")
    assert about(elsewhere) is None
    assert about(f"We write `{BEGIN}` and {END}.\n") is None
    assert about(f"{BEGIN}\n## About this model\n{END}\n") == About(None, None)


SMALL = Entry("a", 3, "b" * 40, None, None)
LARGE = Entry("a", 3, "p" * 40, "1" * 64, None)
XET = Entry("a", 3, "p" * 40, "1" * 64, "4" * 64)


@pytest.mark.parametrize(
    ("found", "claim", "said"),
    [
        (None, {}, "missing"),
        (LARGE, {}, None),
        (LARGE, {"size_bytes": 4}, "3 bytes instead of 4"),
        (LARGE, {"sha256": "2" * 64}, f"sha256 {'1' * 64} instead of {'2' * 64}"),
        (LARGE, {"blob_id": "c" * 40}, None),  # moved into large file storage since: the content counts
        (LARGE, {"xet_hash": "5" * 64}, None),  # not in xet storage: the storage compared the sha256
        (XET, {}, None),
        (XET, {"xet_hash": "4" * 64}, None),
        (XET, {"xet_hash": "5" * 64}, f"xet hash {'4' * 64} instead of {'5' * 64}"),
        (SMALL, {"blob_id": "b" * 40}, None),
        (SMALL, {"blob_id": "c" * 40}, f"git blob {'b' * 40} instead of {'c' * 40}"),
        (SMALL, {"sha256": "e" * 64}, None),
        (SMALL, {}, f"sha256 {'e' * 64} instead of {'1' * 64}"),
    ],
)
def test_a_listing_is_held_against_whatever_the_manifest_knows(found, claim, said):
    claimed = {"size_bytes": 3, "sha256": "1" * 64, "blob_id": None, "xet_hash": None} | claim
    assert contradicts(found, **claimed, sha256_of=lambda _: "e" * 64) == said


def test_a_connection_that_breaks_behind_the_last_byte_brought_the_file():
    asked = []

    def pieces(begin, end):
        asked.append((begin, end))
        yield b"ab"
        yield b"c"
        raise httpx2.ReadError("gone")

    reading = _Reading(SMALL, pieces, lambda: None)
    while not reading.done:
        reading.go_on()
    assert asked == [(0, None)]
    assert reading.served() == Served(3, hashlib.sha256(b"abc").hexdigest(), git_blob_id(b"abc"))


def test_no_more_is_read_of_a_file_than_shows_that_it_is_longer_than_listed():
    pieces = iter([b"ab", b"cd", b"never read"])
    reading = _Reading(SMALL, lambda *_: pieces, lambda: None)
    reading.go_on()
    assert (reading.done, reading.served().size_bytes, next(pieces)) == (True, 4, b"never read")


class Begins:
    """Content of which only the beginnings are asked for."""

    def __init__(self, files):
        self.files, self.asked = files, []

    def start(self, path, count):
        self.asked.append((path, count))
        if self.files[path] is None:
            raise NotServedError("the Hub answered 404", hint="")
        return self.files[path][:count]

    def document(self, entry):
        return self.start(entry.path, entry.size_bytes)


def tensors(**sizes):
    header, at = {}, 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def outlined(files, sizes=None, judged=lambda _: True):
    tree = {
        path: Entry(path, (sizes or {}).get(path, len(content or b"")), "", None, None)
        for path, content in files.items()
    }
    content = Begins(files)
    found = outline.check_outline(content, tree, judged)
    return [(one.path, one.kind, one.refuses) for one in found], content.asked


def test_a_whole_file_costs_one_request_however_large_it_is():
    whole = tensors(a=4)
    assert outlined({"w.safetensors": whole}) == ([], [("w.safetensors", len(whole))])
    text = b'{"a":{"dtype":"U8","shape":[50000000000],"data_offsets":[0,50000000000]}}'
    begin = struct.pack("<Q", len(text)) + text
    size = len(begin) + 50_000_000_000
    found, asked = outlined({"w.safetensors": begin}, {"w.safetensors": size})
    assert (found, asked) == ([], [("w.safetensors", outline._FIRST_BYTES)])
    found, _ = outlined({"w.safetensors": begin}, {"w.safetensors": size - 1})
    assert found == [("w.safetensors", "damaged", True)]


def test_a_header_is_read_as_far_as_it_goes_and_no_further_than_is_sane(monkeypatch):
    monkeypatch.setattr(outline, "_FIRST_BYTES", 16)
    monkeypatch.setattr(outline, "_LARGEST_HEADER", 200)
    whole = tensors(a=4)
    end = len(whole) - 4
    assert outlined({"w.safetensors": whole})[1] == [("w.safetensors", 16), ("w.safetensors", end)]
    long = tensors(**{"n" * 300: 4})
    found, asked = outlined({"w.safetensors": long})
    assert (found, asked) == ([("w.safetensors", "not-looked-at", False)], [("w.safetensors", 16)])
    # One that goes beyond its own file is cut, whatever its length.
    assert outlined({"w.safetensors": long[:250]})[0] == [("w.safetensors", "damaged", True)]


def test_more_weights_than_are_looked_at_are_told(monkeypatch):
    monkeypatch.setattr(outline, "_MOST_FILES", 2)
    files = {f"{name}.safetensors": tensors(a=1) for name in "abc"}
    found, asked = outlined(files)
    assert found == [("", "not-looked-at", False)]
    assert [path for path, _ in asked] == ["a.safetensors", "b.safetensors"]
    assert outlined(dict(list(files.items())[:2]))[0] == []


def test_a_document_too_large_to_be_one_is_not_read(monkeypatch):
    monkeypatch.setattr(outline, "LARGEST_DOCUMENT", 1)
    assert outlined({"config.json": b"{}"}) == ([("config.json", "not-looked-at", False)], [])


def test_what_is_not_judged_is_not_read():
    assert outlined({"old/w.safetensors": b"cut"}, judged=lambda _: False) == ([], [])
    assert outlined({"old/w.safetensors": b"cut"})[0] == [("old/w.safetensors", "damaged", True)]


def test_a_file_that_is_not_handed_out_is_told_once():
    files = {"adapter_config.json": None, "adapter_model.safetensors": tensors(a=1), "w.safetensors": None}
    found, _ = outlined(files, {"adapter_config.json": 9, "w.safetensors": 9})
    assert found == [("adapter_config.json", "not-served", True), ("w.safetensors", "not-served", True)]


def test_a_disk_that_takes_nothing_is_a_note(monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outline.os, "truncate", full)
    assert outlined({"w.safetensors": tensors(a=1)})[0] == [("", "not-looked-at", False)]


class Said:
    """A repo whose client and history are told beforehand."""

    def __init__(self, branch="main", commits=(), trees=None):
        self.repo_id, self.branch = "ada/m", branch
        self.client = SimpleNamespace(endpoint="https://hub")
        self._trees = trees or {}
        self.commits = commits

    def tree(self, oid):
        return self._trees[oid]


def cures(repo, tree, *, finalize_id="f" * 64):
    past = Past(repo, "c" * 40)
    past.commits = tuple(repo.commits)
    return Cures(repo, "c" * 40, tree, past, read_manifest(document(finalize_id=finalize_id)))


def published(oid="p" * 40, finalize_id="f" * 64, job=JOB):
    return SimpleNamespace(oid=oid, finalize_id=finalize_id, trailer=lambda _: job)


def test_other_publications_are_those_of_the_same_job():
    past = Past(Said(), "c" * 40)
    other = published(finalize_id="e" * 64)
    rolled_back = published(finalize_id=None)
    past.commits = (published(), rolled_back, other, published(finalize_id="d" * 64, job="another"))
    assert past.other_publications(read_manifest(document())) == [other]


def test_a_rollback_is_the_cure_only_where_it_changes_the_file():
    now, then = Entry("a", 1, "x", None, None), Entry("a", 1, "y", None, None)
    repo = Said(commits=[published()], trees={"p" * 40: {"a": then, "same": now}})
    told = cures(repo, {"a": now, "same": now})
    assert told.restore("a").endswith(f"`training-agent rollback ada/m --to {'p' * 40}`")
    assert told.restore("same").startswith("Do not use it. Publish the output folder again: ")
    assert f"report commit {'c' * 40}" in told.restore("same")
    assert "rollback" not in cures(repo, {"a": now}, finalize_id="e" * 64).restore("a")


def test_commands_name_the_branch_and_can_be_pasted():
    told = cures(Said(branch="it's"), {})
    assert told.delete("a b;c") == (
        "Delete it: `hf repos delete-files ada/m 'a b;c' --revision 'it'\"'\"'s'`"
    )  # fmt: skip
    for fixed in ("main", "c" * 40, "job-7d9f5f5c"):
        assert "--revision" not in cures(Said(branch=fixed), {}).delete("a")
    at_tag = cures(Said(branch="job-7d9f5f5c"), {}).against_folder()
    assert at_tag.endswith("`training-agent verify ada/m --against DIR --revision job-7d9f5f5c`")


def test_a_sentence_is_one_line():
    assert Flaw("a\x1b[1m", "no\nway", "").sentence == "a [1m no way"


def test_a_witness_that_is_no_regular_file_does_not_hold_us_up(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="not a regular file"):
        witness.open_witness(SimpleNamespace(), pipe)
    with pytest.raises(ConfigError, match="No such file"):
        witness.open_witness(SimpleNamespace(), Path("/nowhere/at/all"))
