"""The embedded Hub through HfApi: preupload, Git LFS, commits, and what a commit refuses."""

import base64
import hashlib
import io
import json
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.utils._verification import compute_file_hash

from agent.sandbox.hub import Hub

SIGNED = {"Authorization": "Bearer hf_ada"}
CARD = b"---\nlicense: mit\n---\n# A model\n"
MIB = 2**20


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    with Hub(root=tmp_path / "hub") as running:
        running.add_user("ada", token="hf_ada")
        running.create_repo("ada/model")
        yield running


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token="hf_ada")


def paths_of(hub, revision="main"):
    return sorted(set(hub.repo("ada/model").resolve(revision).tree) - {".gitattributes"})


def preupload(hub, files, **payload):
    described = [
        {"path": path, "size": size, "sample": base64.b64encode(sample).decode()}
        for path, size, sample in files
    ]
    url = f"{hub.endpoint}/api/models/ada/model/preupload/main"
    return httpx2.post(url, json={"files": described, **payload}, headers=SIGNED)


def commit(hub, *lines, summary="m", branch="main", **header):
    """Post commit lines as they are, past everything the library would have checked."""
    lines = [("header", {"summary": summary, **header}), *lines]
    body = "\n".join(json.dumps({"key": key, "value": value}) for key, value in lines)
    return httpx2.post(f"{hub.endpoint}/api/models/ada/model/commit/{branch}", content=body, headers=SIGNED)


def regular(path, content=b"x"):
    return ("file", {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"})


def as_lfs(path, content):
    """An open file object is what makes the library take the LFS route."""
    return CommitOperationAdd(path, io.BufferedReader(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("path", "size", "sample", "mode"),
    [
        ("model.safetensors", 10, b"abc", "lfs"),
        ("deep/pytorch_model.bin", 10, b"abc", "lfs"),
        ("a.gguf", 10, b"abc", "lfs"),
        ("plots/loss.PNG", 10, b"abc", "lfs"),
        ("tokenizer.model", 10, b"abc", "lfs"),
        ("tokenizer.json", 10 * MIB + 1, b"{}", "lfs"),
        ("tokenizer.json", 10 * MIB, b"{}", "regular"),
        ("model.safetensors.index.json", 10, b"{}", "regular"),
        ("notes", 10, b"a\0b", "lfs"),
        ("notes", 10, b"\xff\xfe\xfd\xfc\xfb", "lfs"),
        ("notes", 600, "é".encode() * 256 + b"\xc3", "regular"),
        ("empty.bin", 0, b"", "regular"),
    ],
)
def test_preupload_tells_large_files_from_regular_ones(hub, path, size, sample, mode):
    answer = preupload(hub, [(path, size, sample)]).json()
    assert answer["files"] == [{"path": path, "uploadMode": mode, "shouldIgnore": False}]
    assert answer["commitOid"] == hub.repo("ada/model").head()


def test_preupload_names_what_the_branch_has(hub):
    hub.commit("ada/model", {"a.txt": b"a", "w.bin": b"\0"})
    answer = preupload(hub, [("a.txt", 1, b"a"), ("w.bin", 1, b"\0"), ("new.txt", 1, b"n")]).json()
    oids = [file.get("oid") for file in answer["files"]]
    assert oids == [hashlib.sha1(b"blob 1\0a").hexdigest(), hashlib.sha256(b"\0").hexdigest(), None]


def test_preupload_takes_at_most_256_files(hub):
    assert preupload(hub, [(f"{n}.txt", 1, b"x") for n in range(256)]).status_code == 200
    assert preupload(hub, [(f"{n}.txt", 1, b"x") for n in range(257)]).status_code == 400


def test_preupload_follows_the_gitattributes_of_the_branch(hub):
    hub.commit("ada/model", {".gitattributes": b"*.dat filter=lfs diff=lfs merge=lfs -text\n"})
    modes = [
        file["uploadMode"]
        for file in preupload(hub, [("a.dat", 1, b"a"), ("a.bin", 1, b"a")]).json()["files"]
    ]
    assert modes == ["lfs", "regular"]


def test_a_gitignore_drops_files_without_a_word(hub, api):
    hub.commit("ada/model", {".gitignore": b"*.log\n!keep.log\nruns/\n"})
    files = [("a.log", 1, b"a"), ("keep.log", 1, b"a"), ("runs/x.txt", 1, b"a"), ("a.txt", 1, b"a")]
    ignored = [file["shouldIgnore"] for file in preupload(hub, files).json()["files"]]
    assert ignored == [True, False, True, False]
    ignored = [file["shouldIgnore"] for file in preupload(hub, files, gitIgnore="a.txt\n").json()["files"]]
    assert ignored == [False, False, False, True]
    add = [CommitOperationAdd("a.log", b"a"), CommitOperationAdd("b.txt", b"b")]
    api.create_commit("ada/model", add, commit_message="m")
    assert paths_of(hub) == [".gitignore", "b.txt"]


def test_a_commit_holds_regular_and_large_files_and_its_words(hub, api, tmp_path):
    parent = hub.repo("ada/model").head()
    large = b"\0\1\2\3" * 50_000
    add = [
        CommitOperationAdd("README.md", CARD),
        CommitOperationAdd("w.bin", large),
        as_lfs("v.bin", large[:9]),
    ]
    made = api.create_commit(
        "ada/model", add[:2], commit_message="title", commit_description="a\n\nJob-Id: 1"
    )
    newest = hub.repo("ada/model").commits()[0]
    assert (newest.oid, newest.title, newest.message, newest.parent) == (
        made.oid,
        "title",
        "a\n\nJob-Id: 1",
        parent,
    )
    assert made.commit_url == f"{hub.endpoint}/ada/model/commit/{made.oid}"
    api.create_commit("ada/model", add[2:], commit_message="lfs")
    listed = {file.path: file for file in api.list_repo_tree("ada/model")}
    assert listed["README.md"].blob_id == compute_file_hash(_written(tmp_path, CARD), algorithm="git-sha1")
    assert listed["w.bin"].lfs.sha256 == hashlib.sha256(large).hexdigest()
    assert (listed["w.bin"].xet_hash is None, listed["v.bin"].xet_hash is None) == (False, True)
    for path, content in (("README.md", CARD), ("w.bin", large), ("v.bin", large[:9])):
        got = api.hf_hub_download("ada/model", path, cache_dir=tmp_path / "cache")
        assert Path(got).read_bytes() == content == hub.read("ada/model", path)
    pointer = listed["v.bin"]
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{pointer.lfs.sha256}\nsize 9\n".encode()
    assert pointer.blob_id == hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()
    assert pointer.lfs.pointer_size == len(text)


def _written(folder, content):
    path = folder / "written"
    path.write_bytes(content)
    return path


def test_the_same_content_still_makes_a_commit(hub):
    for _ in range(2):
        assert commit(hub, regular("a.txt")).status_code == 200
    assert [c.title for c in hub.repo("ada/model").commits()] == ["m", "m", "initial commit"]
    assert len({c.oid for c in hub.repo("ada/model").commits()}) == 3


def test_a_commit_whose_parent_is_not_the_head_is_refused(hub, api):
    head = hub.repo("ada/model").head()
    assert commit(hub, regular("a.txt"), parentCommit=head[:7]).status_code == 200
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(
            "ada/model", [CommitOperationAdd("b.txt", b"b")], commit_message="m", parent_commit=head
        )
    assert refused.value.response.status_code == 412
    assert paths_of(hub) == ["a.txt"]


def test_a_commit_goes_to_its_branch_only(hub, api):
    api.create_branch("ada/model", branch="pr/1")
    api.create_commit("ada/model", [CommitOperationAdd("a.txt", b"a")], commit_message="m", revision="pr/1")
    assert (paths_of(hub), paths_of(hub, "pr/1")) == ([], ["a.txt"])
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(
            "ada/model", [CommitOperationAdd("a.txt", b"a")], commit_message="m", revision="nowhere"
        )
    assert commit(hub, regular("a.txt"), branch=hub.repo("ada/model").head()).status_code == 404


def test_files_and_folders_are_deleted_and_replaced_in_one_commit(hub, api):
    hub.commit("ada/model", {"old/a.txt": b"a", "old/b.txt": b"b", "older.txt": b"o", "keep.txt": b"k"})
    operations = [
        CommitOperationDelete("old/"),
        CommitOperationDelete("older.txt"),
        CommitOperationAdd("new.txt", b"n"),
    ]
    api.create_commit("ada/model", operations, commit_message="m")
    assert paths_of(hub) == ["keep.txt", "new.txt"]


def test_deleting_what_is_not_there_is_refused(hub, api):
    hub.commit("ada/model", {"a/b.txt": b"b"})
    for path in ("nowhere.txt", "a", "nowhere/"):
        with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
            api.create_commit(
                "ada/model", [CommitOperationDelete(path, is_folder=path[-1] == "/")], commit_message="m"
            )
    assert paths_of(hub) == ["a/b.txt"]


def test_an_old_revision_of_a_large_file_is_copied_without_an_upload(hub, api):
    old, new = b"\0old" * 1000, b"\0new" * 1000
    first = api.create_commit("ada/model", [CommitOperationAdd("w.bin", old)], commit_message="1").oid
    hub.commit("ada/model", {"w.bin": new, "a.txt": b"regular"})
    before = len(hub.requests)
    operations = [
        CommitOperationCopy("w.bin", "w.bin", src_revision=first),
        CommitOperationCopy("a.txt", "b.txt"),
    ]
    api.create_commit("ada/model", operations, commit_message="back")
    assert hub.read("ada/model", "w.bin") == old
    assert hub.read("ada/model", "b.txt") == b"regular"
    assert not [r for r in hub.requests[before:] if r.kind in {"cas", "lfs"}]


def test_lfs_content_is_sent_once_and_verified(hub, api):
    content = b"\0weights" * 30_000
    api.preupload_lfs_files("ada/model", [as_lfs("w.bin", content)])
    sent = [r for r in hub.requests if r.method == "PUT"]
    assert [r.received_bytes for r in sent] == [len(content)]
    assert "authorization" not in sent[0].headers
    assert [r.status for r in hub.requests if r.path.endswith("/verify")] == [200]
    api.create_commit("ada/model", [as_lfs("w.bin", content)], commit_message="m")
    assert len([r for r in hub.requests if r.method == "PUT"]) == 1
    assert hub.read("ada/model", "w.bin") == content


def test_large_lfs_content_goes_in_parts(hub, api):
    hub.multipart_over, hub.multipart_chunk = 100_000, 64_000
    content = bytes(range(256)) * 1000
    api.create_commit("ada/model", [as_lfs("w.bin", content)], commit_message="m")
    parts = [r.received_bytes for r in hub.requests if r.method == "PUT"]
    assert parts == [64_000, 64_000, 64_000, 64_000]
    assert hub.read("ada/model", "w.bin") == content


def test_parts_that_do_not_make_the_object_are_refused(hub):
    hub.multipart_over, hub.multipart_chunk = 10, 8
    upload = _batch(hub, hashlib.sha256(b"0123456789abcdef").hexdigest(), 16)["actions"]["upload"]
    etags = [
        httpx2.put(upload["header"][part], content=data).headers["ETag"]
        for part, data in (("1", b"01234567"), ("2", b"89abcdeX"))
    ]
    parts = [{"partNumber": n + 1, "etag": etag} for n, etag in enumerate(etags)]
    assert httpx2.post(upload["href"], json={"parts": parts[:1]}).status_code == 400
    assert httpx2.post(upload["href"], json={"parts": parts}).status_code == 400
    assert _batch(hub, hashlib.sha256(b"0123456789abcdef").hexdigest(), 16)["actions"]


def _batch(hub, oid, size):
    payload = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": oid, "size": size}],
    }
    answer = httpx2.post(f"{hub.endpoint}/ada/model.git/info/lfs/objects/batch", json=payload, headers=SIGNED)
    assert answer.status_code == 200
    return answer.json()["objects"][0]


def test_an_object_that_is_not_what_its_name_says_is_refused(hub):
    oid = hashlib.sha256(b"right").hexdigest()
    actions = _batch(hub, oid, 5)["actions"]
    assert httpx2.put(actions["upload"]["href"].replace(oid, "0" * 64), content=b"right").status_code == 403
    for wrong, status in ((b"wrong", 400), (b"righ", 400), (b"right and more", 413)):
        assert httpx2.put(actions["upload"]["href"], content=wrong).status_code == status
        verify = httpx2.post(actions["verify"]["href"], json={"oid": oid, "size": 5}, headers=SIGNED)
        assert verify.status_code == 404
    assert not list(hub.content._spool.iterdir())
    assert httpx2.put(actions["upload"]["href"], content=b"right").status_code == 200
    assert "actions" not in _batch(hub, oid, 5)
    assert _batch(hub, oid, 6)["error"]["code"] == 422


def lfs_line(path, content=b"never sent", **changes):
    oid = hashlib.sha256(content).hexdigest()
    return ("lfsFile", {"path": path, "algo": "sha256", "oid": oid, "size": len(content), **changes})


REFUSED = {
    "an lfs object that was never uploaded": (lfs_line("w.bin"), "pointed to a file that does not exist"),
    "base64 that is none": (
        ("file", {"path": "a", "content": "%%%", "encoding": "base64"}),
        "Invalid base64",
    ),
    "a regular file over 10 MiB": (regular("a.txt", b"x" * (10 * MIB + 1)), "larger than 10 MiB"),
    "binary content in a regular file": (regular("a.txt", b"a\0b"), "binary files"),
    "a Hugging Face token": (regular("a.txt", b"key: hf_" + b"a1B2" * 9), "secret found"),
    "an AWS key": (regular("a.txt", b"AKIAIOSFODNN7EXAMPLE"), "secret found"),
    "invalid card metadata": (regular("README.md", b"---\nbase_model: ./out\n---\n"), "base_model"),
    "a path out of the repo": (regular("../a.txt"), "Invalid path"),
    "an absolute path": (regular("/a.txt"), "Invalid path"),
    "an unknown key": (("movedFile", {"path": "a"}), "unknown key"),
    "a line without a value": (("file", None), "Invalid commit line"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_one_bad_line_refuses_the_whole_commit(hub, what):
    bad, words = REFUSED[what]
    head = hub.repo("ada/model").head()
    answer = commit(hub, regular("good.txt"), bad, regular("better.txt"))
    assert answer.status_code == 400, what
    assert words in answer.json()["error"]
    assert answer.headers["X-Error-Message"]
    assert hub.repo("ada/model").head() == head


def test_a_large_file_of_another_size_is_refused(hub, api):
    api.preupload_lfs_files("ada/model", [CommitOperationAdd("w.bin", b"\0" * 99)])
    answer = commit(hub, lfs_line("w.bin", b"\0" * 99, size=98))
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "LFS pointer of 'w.bin' says 98 bytes, storage has 99",
    )
    assert commit(hub, lfs_line("w.bin", b"\0" * 99)).status_code == 200


def test_a_path_cannot_be_a_file_and_a_folder(hub):
    assert commit(hub, regular("a"), regular("a/b")).status_code == 400


def test_a_commit_needs_a_header_with_a_summary(hub):
    assert commit(hub, regular("a.txt"), summary="").status_code == 400
    url = f"{hub.endpoint}/api/models/ada/model/commit/main"
    assert httpx2.post(url, content=json.dumps({"key": "file"}), headers=SIGNED).status_code == 400
    assert httpx2.post(url, content=b"", headers=SIGNED).status_code == 400


def test_large_files_in_one_commit_are_limited(hub, api, monkeypatch):
    monkeypatch.setattr("agent.sandbox.hub.commit.MAX_LARGE_FILES", 3)
    api.preupload_lfs_files("ada/model", [CommitOperationAdd("w.bin", b"\0" * 9)])
    lines = [lfs_line(f"{n}.bin", b"\0" * 9) for n in range(4)]
    assert commit(hub, *lines).status_code == 400
    assert commit(hub, *lines[:3]).status_code == 200


def test_a_full_private_quota_refuses_content_for_private_repos(hub, api):
    hub.full_private.add("ada")
    hub.create_repo("ada/hidden", private=True)
    for add in (
        [CommitOperationAdd("a.txt", b"a")],
        [CommitOperationAdd("a.bin", b"\0")],
        [as_lfs("a.bin", b"\0")],
    ):
        with pytest.raises((HfHubHTTPError, ConnectionError), match=r"storage limit|403 Forbidden"):
            api.create_commit("ada/hidden", add, commit_message="m")
    refused = [r for r in hub.requests if r.status == 403]
    assert {r.path.split("/")[-2] for r in refused} == {"commit", "xet-write-token", "objects"}
    api.create_commit("ada/model", [CommitOperationAdd("a.txt", b"a")], commit_message="m")


INDEX = "model-index: [{{name: m, results: [{{{}}}]}}]"
TASK, DATASET, METRICS = "task: {type: t}", "dataset: {type: t, name: n}", "metrics: [{type: a, value: 0}]"
CARDS = {
    "bad YAML": ("license: [mit", "Invalid YAML"),
    "no mapping": ("- a\n- b", "mapping"),
    "a local base model": ("base_model: ./outputs/sft", "base_model"),
    "an absolute base model": ("base_model: /workspace/model", "base_model"),
    "a base model too deep": ("base_model: a/b/c", "base_model"),
    "a base model in the home folder": ("base_model: ~/model", "base_model"),
    "a number as base model": ("base_model: 7", "base_model"),
    "one bad base model of two": ("base_model: [base/llama, ../x]", "base_model"),
    "a license that is a mapping": ("license: {name: mit}", "license"),
    "a license that is a number": ("license: 2", "license"),
    "datasets that are no ids": ("datasets: [./data/train.jsonl]", "datasets"),
    "an index without a name": ("model-index: [{results: []}]", "model-index[0].name"),
    "an index that is no list": ("model-index: {name: m}", "array"),
    "an index without results": ("model-index: [{name: m}]", "results"),
    "a result without a task": (INDEX.format(f"{DATASET}, {METRICS}"), "results[0].task"),
    "a result without a dataset": (INDEX.format(f"{TASK}, {METRICS}"), "results[0].dataset"),
    "a result without metrics": (INDEX.format(f"{TASK}, {DATASET}"), "results[0].metrics"),
    "a metric without a value": (INDEX.format(f"{TASK}, {DATASET}, metrics: [{{type: a}}]"), "metrics.value"),
}


@pytest.mark.parametrize("what", CARDS)
def test_a_card_the_hub_would_not_take_is_refused(hub, api, what):
    metadata, words = CARDS[what]
    card = f"---\n{metadata}\n---\n# A model\n"
    answer = httpx2.post(f"{hub.endpoint}/api/validate-yaml", json={"content": card, "repoType": "model"})
    assert answer.status_code == 400
    assert any(words in error["message"] for error in answer.json()["errors"])
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        api.create_commit("ada/model", [CommitOperationAdd("README.md", card.encode())], commit_message="m")


@pytest.mark.parametrize(
    "metadata",
    [
        "base_model: base/llama-3.1",
        "base_model: gpt2",
        "base_model: [base/llama, other/adapter]",
        "license: [mit, other]",
        "datasets: [squad, owner/data]",
        INDEX.format(f"{TASK}, {DATASET}, {METRICS}"),
        "date: 2025-01-01",
    ],
)
def test_a_sound_card_is_taken(hub, api, metadata):
    card = f"---\r\n{metadata}\r\n---\r\n# A model\r\n".encode()
    api.create_commit("ada/model", [CommitOperationAdd("README.md", card)], commit_message="m")
    assert api.model_info("ada/model").card_data is not None


@pytest.mark.parametrize("card", ["# A model\n", "", "---\n---\n# A model\n", "a\n---\nlicense: 1\n---\n"])
def test_a_card_without_metadata_is_taken_with_a_warning(hub, card):
    answer = httpx2.post(f"{hub.endpoint}/api/validate-yaml", json={"content": card, "repoType": "model"})
    assert answer.status_code == 200
    assert (answer.json()["errors"], len(answer.json()["warnings"])) == ([], 1)


def test_upload_folder_publishes_a_whole_folder(hub, api, tmp_path):
    content = {
        "config.json": b"{}",
        "model.safetensors": b"\0\1" * 70_000,
        "deep/empty.bin": b"",
        "README.md": CARD,
    }
    for path, data in content.items():
        target = tmp_path / "model" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    api.upload_folder(repo_id="ada/model", folder_path=tmp_path / "model")
    assert {path: hub.read("ada/model", path) for path in paths_of(hub)} == content
    got = api.snapshot_download("ada/model", local_dir=tmp_path / "got", cache_dir=tmp_path / "cache")
    for path, data in content.items():
        assert (tmp_path / "got" / path).read_bytes() == data
    assert api.verify_repo_checksums("ada/model", local_dir=got).mismatches == []
