from __future__ import annotations

import json

import pytest

from agent.card import make_manifest

IDENTITY = {"job": "j", "finalize_id": "f", "content_id": "c", "repo_id": "ada/m", "revision": "main"}
TRAINING = {"kind": "full", "method": None, "metrics": {"loss": 0.5}, "dataset": "Käse ☃"}


def manifest(**more):
    given = {
        "files": [("b.txt", 2, "22"), ("a.txt", 1, "11")],
        "identity": IDENTITY,
        "training": TRAINING,
        "versions": {"hf_xet": "2", "agent": "1"},
    }
    return make_manifest(**given | more)


def test_a_manifest_is_this_text():
    assert manifest().decode() == (
        "{\n"
        '  "schema": 1,\n'
        '  "job": "j",\n'
        '  "finalize_id": "f",\n'
        '  "content_id": "c",\n'
        '  "repo_id": "ada/m",\n'
        '  "revision": "main",\n'
        '  "kind": "full",\n'
        '  "method": null,\n'
        '  "metrics": {\n'
        '    "loss": 0.5\n'
        "  },\n"
        '  "dataset": "Käse ☃",\n'
        '  "versions": {\n'
        '    "agent": "1",\n'
        '    "hf_xet": "2"\n'
        "  },\n"
        '  "files": [\n'
        "    {\n"
        '      "path": "a.txt",\n'
        '      "size": 1,\n'
        '      "sha256": "11"\n'
        "    },\n"
        "    {\n"
        '      "path": "b.txt",\n'
        '      "size": 2,\n'
        '      "sha256": "22"\n'
        "    }\n"
        "  ]\n"
        "}\n"
    )


def test_two_runs_over_the_same_inputs_make_the_same_bytes():
    assert manifest() == manifest(
        files=iter([("a.txt", 1, "11"), ("b.txt", 2, "22")]), versions={"agent": "1", "hf_xet": "2"}
    )


def test_it_holds_no_time_and_no_commit():
    assert set(json.loads(manifest())) == {"schema", *IDENTITY, *TRAINING, "versions", "files"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        manifest(training={"metrics": {"loss": value}})


def test_a_publication_without_files_is_still_a_document():
    assert json.loads(manifest(files=[]))["files"] == []
