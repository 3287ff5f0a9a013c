from __future__ import annotations

from pathlib import Path

import pytest

from agent.repo_paths import Placement, parse_paths, parse_placements, why_not


@pytest.mark.parametrize(
    "path", ["a", "a/b.txt", "modèle 1/模型.bin", "a b\tc", "x" * 255, "-rf", "a/...", "..a"]
)
def test_ordinary_paths_are_taken(path):
    assert why_not(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        ".git/config",
        "a/.git/x",
        ".cache/x",
        "a\nb",
        "a\\b",
        "x" * 256,
        "/".join(["abcdefgh"] * 200),
        "\udce9",
    ],
)
def test_paths_that_a_repo_cannot_hold_are_not_taken(path):
    assert why_not(path)


@pytest.mark.parametrize(
    ("text", "placements"),
    [
        ("a:b", [("a", "b")]),
        ("/x/model.onnx:onnx/, y:z/y ,", [("/x/model.onnx", "onnx/model.onnx"), ("y", "z/y")]),
        ("a:b\nc:d", [("a", "b"), ("c", "d")]),
        ("s3:odd:dest", [("s3:odd", "dest")]),
        ("a:./b", [("a", "b")]),
        ("", []),
    ],
)
def test_sources_are_read_with_their_places(text, placements):
    assert parse_placements(text) == tuple(Placement(Path(source), dest) for source, dest in placements)


@pytest.mark.parametrize("text", ["a", ":b", "a:", "a:/b", "a:../b", "a:b/../c", "a:.git/x", "a:b,c"])
def test_an_entry_that_is_no_placement_is_named(text):
    with pytest.raises(ValueError, match=r"is not source:dest|is no path in a repo"):
        parse_placements(text)


def test_expected_paths_are_read_or_named():
    assert parse_paths("a, b/c\nd") == ("a", "b/c", "d")
    with pytest.raises(ValueError, match=r"'\.\./x' is no path in a repo"):
        parse_paths("a,../x")
