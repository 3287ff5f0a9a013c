"""The private marks that agent.hub.commit sets mean to the real client what we think they mean."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, _commit_api

from agent.hub import commit
from agent.hub.files import Stored
from tests.conftest import TOKEN


def test_the_marks_exist_and_start_out_unset():
    operation = CommitOperationAdd("a.txt", b"a")
    marks = {field.name: getattr(operation, field.name) for field in dataclasses.fields(operation)}
    marks = {name: value for name, value in marks.items() if name.startswith("_")}
    assert marks == {
        "_upload_mode": None,
        "_should_ignore": None,
        "_remote_oid": None,
        "_is_uploaded": False,
        "_is_committed": False,
    }


def test_the_client_sends_marked_operations_as_they_are(hub):
    """No preupload, no read, nothing dropped as unchanged: every file stands in the commit's payload."""
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    hub.create_repo("ada/model", private=True)
    hub.commit("ada/model", {"same.txt": b"same", "w.safetensors": b"W" * 100})
    sha256 = hashlib.sha256(b"W" * 100).hexdigest()
    stored = [
        Stored("same.txt", 4, hashlib.sha256(b"same").hexdigest(), blob=b"same"),
        Stored("empty.txt", 0, hashlib.sha256(b"").hexdigest(), blob=b""),
        Stored("w.safetensors", 100, sha256),
    ]
    since = len(hub.requests)
    api.create_commit("ada/model", [commit._addition(one) for one in stored], commit_message="m")
    assert [request.path.split("/")[5] for request in hub.requests[since:]] == ["commit"]
    assert {"same.txt", "empty.txt", "w.safetensors"} <= set(hub.repo("ada/model").commits("main")[0].tree)
    assert hub.read("ada/model", "w.safetensors") == b"W" * 100


def test_the_commit_line_of_an_lfs_file_is_made_from_hash_and_size_alone():
    operation = commit._addition(Stored("w.safetensors", 7 * 2**30, "ab" * 32))
    header, line = _commit_api._prepare_commit_payload([operation], {}, "m")
    assert line["value"] == {"path": "w.safetensors", "algo": "sha256", "oid": "ab" * 32, "size": 7 * 2**30}
    assert json.dumps(header)


@pytest.mark.parametrize("name", ["_upload_mode", "_is_uploaded", "_should_ignore", "_remote_oid"])
def test_the_client_still_reads_each_mark(name):
    from huggingface_hub import hf_api

    source = inspect.getsource(_commit_api) + inspect.getsource(hf_api.HfApi.create_commit)
    source += inspect.getsource(hf_api.HfApi.preupload_lfs_files)
    assert source.count(name) > 1
