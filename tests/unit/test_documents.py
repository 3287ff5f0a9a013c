"""Configs and tokenizers that are damaged, and pointers in place of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifact import documents
from agent.artifact.documents import check_documents
from agent.artifact.files import LocalFile
from agent.hashes import Stamp
from tests.conftest import FIXTURES
from tests.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.artifact.findings import Finding

JSON_NAMES = [
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model_index.json",
]
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str, bytes], list[Finding]]:
    def check(path: str, content: bytes) -> list[Finding]:
        source = tmp_path / "file"
        source.write_bytes(content)
        return list(check_documents([LocalFile(path, source, Stamp.of(source))]))

    return check


def all_files(root: Path) -> list[LocalFile]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [LocalFile(path.relative_to(root).as_posix(), path, Stamp.of(path)) for path in files]


@pytest.mark.parametrize("name", ["base", "dpo_lora", "orpo_lora", "sft_full", "sft_lora", "sharded"])
def test_real_outputs_are_clean(name):
    assert list(check_documents(all_files(FIXTURES / name))) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_known_tools_leave_behind_is_clean(tmp_path, name):
    LAYOUTS[name].make(tmp_path)
    assert list(check_documents(all_files(tmp_path))) == []


@pytest.mark.parametrize("name", JSON_NAMES)
@pytest.mark.parametrize("folder", ["", "a/b/"])
def test_a_document_cut_short_is_refused_in_any_folder(check, name, folder):
    [finding] = check(folder + name, b'{"model": {}')
    assert (finding.path, finding.kind, finding.refuses) == (folder + name, "damaged", True)
    assert finding.message == "is damaged: not JSON: Expecting ',' delimiter in line 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{\n"a": tru', "is damaged: not JSON: Expecting value in line 2"),
        (b"[]", "is damaged: it holds no JSON object"),
        (b"null", "is damaged: it holds no JSON object"),
        (b"[" * 100_000, "is damaged: nested too deep"),
        (b'{"a": "\xff"}', "is damaged: byte 7 is no UTF-8"),
        (b"\0" * 64, "is damaged: not JSON: Expecting value in line 1"),
        ("{}".encode("utf-16"), "is damaged: byte 0 is no UTF-8"),
    ],
)
def test_what_is_wrong_with_a_document_is_told_in_the_parsers_words(check, content, message):
    [finding] = check("config.json", content)
    assert (finding.kind, finding.message) == ("damaged", message)


@pytest.mark.parametrize("name", JSON_NAMES)
def test_a_document_may_hold_nan_and_anything_else(check, name):
    assert check(name, b'{"model": {}, "rope": NaN, "beta": -Infinity, "x": [1, "\xc3\xa9", null]}') == []


@pytest.mark.parametrize("content", [b"{}", b'{"model": null}', b'{"model": "BPE"}'])
def test_a_tokenizer_without_its_model_is_damaged(check, content):
    [finding] = check("tokenizer.json", content)
    assert finding.message == "is damaged: it holds no tokenizer's model"


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"])
def test_a_vocabulary_is_not_empty(check, name):
    [finding] = check(f"sub/{name}", b"")
    assert (finding.kind, finding.message, finding.refuses) == ("damaged", "is empty", True)
    assert check(name, b"\0binary\xff") == []


@pytest.mark.parametrize(
    "name", ["notes.json", "my_config.json", "README.md", "config.json.bak", "empty.txt"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"version https://example.org/"])
def test_other_files_may_hold_anything(check, name, content):
    assert check(name, content) == []


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "a/pytorch_model.bin", "config.json", "tokenizer.model", "x.gguf", "anything"],
)
@pytest.mark.parametrize("content", [POINTER, POINTER.replace(b"\n", b"\r\n")])
def test_a_pointer_in_place_of_any_file_is_refused_once(check, name, content):
    [finding] = check(name, content)
    assert (finding.path, finding.kind, finding.refuses) == (name, "lfs-pointer", True)
    assert "git lfs pull" in finding.hint


def test_a_text_about_pointers_is_none(check):
    assert check("README.md", b"# LFS\n" + POINTER) == []
    assert check("README.md", POINTER + b"x" * 1024) == []


def test_json_that_is_too_large_is_told_and_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr(documents, "_MOST_PARSED_BYTES", 1000)
    missing = LocalFile("tokenizer.json", tmp_path / "missing", Stamp(2000, 0, 0, 0, 0))
    [finding] = check_documents([missing])
    assert (finding.kind, finding.refuses) == ("not-parsed", False)
    assert finding.message == "has 2,000 bytes: JSON of more than 1,000 was not parsed"


@given(content=st.binary(max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_makes_the_check_crash(check, content):
    assert len(check("config.json", content)) <= 1
