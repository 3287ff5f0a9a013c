from __future__ import annotations

import sys

import pytest

from agent.patterns import Patterns


@pytest.mark.parametrize(
    ("text", "path", "matches"),
    [
        ("*.tmp", "a.tmp", True),
        ("*.tmp", "deep/er/a.tmp", True),
        ("/a.tmp", "deep/a.tmp", False),
        ("logs/", "logs/a/b", True),
        ("logs/", "logs", False),
        ("a/**/z", "a/b/c/z", True),
        ("*.txt,!keep.txt", "keep.txt", False),
        ("!keep.txt,*.txt", "keep.txt", True),
        (" *.a , *.b ", "x.b", True),
        ("# remark\n*.a", "# remark", False),
        ("", "anything", False),
        (" ,\n", "anything", False),
    ],
)
def test_they_mean_what_they_mean_in_gitignore(text, path, matches):
    assert Patterns(text).match(path) is matches


@pytest.mark.parametrize("text", ["!", "*.a,!"])
def test_a_pattern_that_is_none_is_told_at_once(text):
    with pytest.raises(ValueError, match="pattern"):
        Patterns(text)


def test_no_patterns_cost_no_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "pathspec", None)
    assert not Patterns("")
    assert not Patterns("").match("a")
    with pytest.raises(ImportError):
        Patterns("*.a")
