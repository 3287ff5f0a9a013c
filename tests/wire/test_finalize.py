"""finalize with the real huggingface_hub and hf_xet, over real HTTP, against the embedded Hub."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
from pathlib import Path

import pytest

from agent import finalize as story
from agent import publication
from agent.errors import ArtifactError, HubRefusedError, JobRefusedError, VerifyMismatchError
from agent.outcome import Outcome
from agent.sandbox.hub import Fault
from tests.conftest import retrain

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
TOKENIZER = {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors", *TOKENIZER}
FULL = {"config.json", "generation_config.json", "model.safetensors", *TOKENIZER}
SHARDS = {f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)}
SHARDED = {"config.json", "generation_config.json", "model.safetensors.index.json", *SHARDS}
PUBLISHED = {
    "sft_lora": ADAPTER,
    "sft_lora_abs": ADAPTER,
    "dpo_lora": ADAPTER,
    "orpo_lora": ADAPTER,
    "sft_full": FULL | {"README.md"},
    "base": FULL,
    "sharded": SHARDED,
}
REPAIRED = {"README.md", "adapter_config.json"}
OURS = {"README.md", "finalize.json"}


def content_bytes(hub, since=0):
    return sum(
        request.received_bytes
        for request in hub.requests[since:]
        if request.kind in {"cas", "lfs"} and "telemetry" not in request.path
    )


def commits(hub, repo="ada/model", branch="main"):
    return [commit for commit in hub.repo(repo).commits(branch) if "Finalize-Id: " in commit.message]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_reader_gets_exactly_the_files_that_load_the_model(name, pod, hub, trained, tmp_path):
    from huggingface_hub import HfApi

    folder = trained(name)
    outcome = pod.finalize(folder)

    assert (outcome.result, outcome.published) == ("completed", True)
    assert outcome.model_url == f"{hub.endpoint}/ada/model"
    api = HfApi(endpoint=hub.endpoint, token=pod.environ(folder)["HF_TOKEN"])
    got = Path(api.snapshot_download("ada/model", local_dir=tmp_path / "download"))
    downloaded = {p.relative_to(got).as_posix() for p in got.rglob("*") if p.is_file()}
    downloaded = {path for path in downloaded if not path.startswith(".cache/")} - {".gitattributes"}
    assert downloaded == PUBLISHED[name] | OURS
    for path in PUBLISHED[name] - REPAIRED:
        assert (got / path).read_bytes() == (folder / path).read_bytes(), path
    listed = {file["path"]: file for file in json.loads((got / "finalize.json").read_text())["files"]}
    assert set(listed) == downloaded - {"finalize.json"}
    for path, file in listed.items():
        content = (got / path).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    row = pod.row(outcome.job_id)
    assert (row["status"], row["progress"], row["model_url"]) == ("completed", 100.0, outcome.model_url)


def test_the_output_folder_is_never_changed(pod, trained):
    folder = trained("sft_lora_abs")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    pod.finalize(folder)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()} == before


def test_each_model_replaces_the_one_before_in_one_commit(pod, hub, trained):
    """A full model, then shards, then an adapter: readers never find the weights of two of them."""
    hub.create_repo("ada/model", private=True)
    hub.commit("ada/model", {"LICENSE": b"mine", "plots/loss.txt": b"curve", "model.gguf": b"GGUF"})
    for name in ("sft_full", "sharded", "sft_lora"):
        pod.finalize(trained(name))
        tree = set(hub.repo("ada/model").commits("main")[0].tree)
        assert tree == PUBLISHED[name] | OURS | {".gitattributes", "LICENSE", "plots/loss.txt"}
    assert len(commits(hub)) == 3


def test_a_person_s_readme_on_the_hub_keeps_its_prose(pod, hub, trained):
    hub.create_repo("ada/model", private=True)
    hub.commit(
        "ada/model", {"README.md": b"---\nlicense: mit\nbase_model: /tmp/x\n---\n\n# Mine\n\nWords.\n"}
    )
    pod.finalize(trained("sharded"))
    card = hub.read("ada/model", "README.md").decode()
    assert "# Mine\n\nWords.\n" in card
    assert "license: mit" in card
    assert "/tmp/x" not in card


def test_a_base_that_a_person_named_on_the_hub_is_kept(pod, hub, trained):
    hub.add_model("meta/llama")
    hub.create_repo("ada/model", private=True)
    hub.commit("ada/model", {"README.md": b"---\nbase_model: meta/llama\n---\n\n# Mine\n"})
    pod.finalize(trained("sharded"))
    assert "base_model: meta/llama" in hub.read("ada/model", "README.md").decode()


def test_the_readme_of_an_earlier_model_does_not_describe_the_next_one(pod, hub, trained):
    pod.finalize(trained("sft_lora"))
    pod.finalize(trained("sharded"))
    assert "sft" not in hub.read("ada/model", "README.md").decode().lower()


def test_a_second_run_sends_nothing_and_commits_nothing(pod, hub, trained):
    folder = trained("sft_full")
    first = pod.finalize(folder)
    since = len(hub.requests)
    second = pod.finalize(folder)
    assert (second.result, second.published, second.commit) == ("completed", True, first.commit)
    assert second.uploaded_bytes == 0
    assert content_bytes(hub, since) == 0
    assert not [r for r in hub.requests[since:] if r.method == "POST" and "/tag/" not in r.path]
    assert len(commits(hub)) == 1


def test_a_second_run_after_losing_its_state_and_touching_the_files_makes_no_second_commit(
    pod, hub, trained, tmp_path
):
    folder = trained("sft_full")
    pod.finalize(folder)
    for file in folder.iterdir():
        os.utime(file)
    pod.state_dir = tmp_path / "another-pod"
    assert pod.finalize(folder).result == "completed"
    assert len(commits(hub)) == 1


def test_an_earlier_job_stays_done_when_another_job_published_since(pod, hub, trained):
    other = "00000000-2222-4a3b-9c5e-0123456789ab"
    pod.finalize(trained("sft_full"), JOB_ID=JOB)
    newest = pod.finalize(trained("sharded"), JOB_ID=other)
    again = pod.finalize(trained("sft_full", "again"), JOB_ID=JOB)
    assert again.result == "completed"
    assert hub.repo("ada/model").head("main") == newest.commit
    assert len(commits(hub)) == 2


def test_a_model_nobody_named_is_published_again_when_it_is_wanted_again(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    pod.finalize(trained("sharded"))
    pod.finalize(trained("sft_full", "again"))
    assert "model.safetensors" in hub.repo("ada/model").commits("main")[0].tree
    assert len(commits(hub)) == 3


def test_a_model_wanted_again_arrives_even_if_the_answer_to_its_commit_is_lost(pod, hub, trained):
    """The first commit of the same content is not taken for the one whose answer was lost."""
    first = pod.finalize(trained("sft_full"))
    pod.finalize(trained("sharded"))
    fault = hub.faults.add(Fault("reset", match="POST /api/models/ada/model/commit", nth=0))
    again = pod.finalize(trained("sft_full", "again"))
    assert fault.fired == 1
    assert again.commit == hub.repo("ada/model").head("main") != first.commit


def test_a_job_that_goes_back_to_its_first_model_publishes_it_again(pod, hub, trained):
    pod.finalize(trained("sft_full"), JOB_ID=JOB)
    pod.finalize(trained("sharded"), JOB_ID=JOB)
    back = pod.finalize(trained("sft_full", "again"), JOB_ID=JOB)
    assert back.commit == hub.repo("ada/model").head("main")
    assert hub.repo("ada/model").tags == {"job-7d9f5f5c": back.commit}


def test_retraining_a_job_moves_its_tag(pod, hub, trained):
    pod.finalize(trained("sft_full"), JOB_ID=JOB)
    second = pod.finalize(trained("sharded"), JOB_ID=JOB)
    assert hub.repo("ada/model").tags == {"job-7d9f5f5c": second.commit}


def test_commit_and_manifest_carry_the_identity(pod, hub, trained):
    pod.finalize(trained("dpo_lora"), JOB_ID=JOB, GITHUB_SHA="abc123")
    commit = commits(hub)[0]
    manifest = json.loads(hub.read("ada/model", "finalize.json"))
    assert commit.title == f"Publish DPO model of job {JOB}"
    assert commit.message.split("\n") == [
        f"Job-Id: {JOB}",
        f"Finalize-Id: {manifest['finalize_id']}",
        f"Content-Id: {manifest['content_id']}",
        "Git-Revision: abc123",
    ]
    assert manifest["job"] == JOB
    assert manifest["metrics"]["rewards/accuracies"] is not None
    assert "job-7d9f5f5c" in hub.read("ada/model", "README.md").decode()


def test_no_path_of_the_pod_and_no_missing_base_is_published(pod, hub, trained):
    for name in ("sft_lora_abs", "sft_lora"):
        pod.finalize(trained(name))
        card = hub.read("ada/model", "README.md").decode()
        adapter = json.loads(hub.read("ada/model", "adapter_config.json"))
        assert adapter["base_model_name_or_path"] is None
        assert "/workspace" not in card
        assert "o5/base" not in card
        assert "None" not in card


def test_a_base_that_exists_is_kept_byte_for_byte(pod, hub, trained):
    hub.add_model("o5/base")
    folder = trained("sft_lora")
    pod.finalize(folder)
    assert hub.read("ada/model", "adapter_config.json") == (folder / "adapter_config.json").read_bytes()
    card = hub.read("ada/model", "README.md").decode()
    assert "base_model: o5/base" in card
    assert f"fine-tuned version of [o5/base]({hub.endpoint}/o5/base)" in card


def test_base_model_always_wins(pod, hub, trained):
    hub.add_model("o5/base")
    pod.finalize(trained("sft_lora"), BASE_MODEL="meta/llama")
    adapter = json.loads(hub.read("ada/model", "adapter_config.json"))
    assert adapter["base_model_name_or_path"] == "meta/llama"
    assert "base_model: meta/llama" in hub.read("ada/model", "README.md").decode()


def test_metadata_that_the_hub_refuses_does_not_sink_the_model(pod, hub, trained):
    folder = trained("sft_full")
    (folder / "README.md").write_text("---\nlicense: [1, 2]\ndatasets: /tmp/data\n---\n# Kept words\n")
    assert pod.finalize(folder).published
    card = hub.read("ada/model", "README.md").decode()
    assert "# Kept words" in card
    assert "/tmp/data" not in card


@pytest.mark.parametrize(
    "lie",
    [
        lambda t: t.tree_sha256("ada/model", "model.safetensors", "0" * 64),
        lambda t: t.tree_xet_hash("ada/model", "model.safetensors", "1" * 64),
        lambda t: t.tree_size("ada/model", "model.safetensors", 107961),
        lambda t: t.tree_oid("ada/model", "tokenizer.json", "2" * 40),
        lambda t: t.tree_oid("ada/model", "README.md", "2" * 40),
        lambda t: t.hide("ada/model", "config.json"),
        lambda t: t.hide("ada/model", "finalize.json"),
        lambda t: t.extra("ada/model", "model-00001-of-00009.safetensors"),
        lambda t: t.commit_drops("model.safetensors"),
    ],
    ids=["sha256", "xet", "size", "regular", "card", "missing", "no-manifest", "left-over", "dropped"],
)
def test_a_tree_that_lies_is_caught(lie, pod, hub, trained, monkeypatch):
    make = publication.make

    def lie_from_now_on(*args, **kwargs):
        lie(hub.tamper)
        return make(*args, **kwargs)

    monkeypatch.setattr(story.publication, "make", lie_from_now_on)
    outcome = Outcome()
    with pytest.raises(VerifyMismatchError):
        pod.finalize(trained("sft_full"), outcome, JOB_ID=JOB)
    assert (outcome.published, outcome.model_url) == (False, None)
    assert pod.row(JOB)["status"] == "failed"
    assert pod.row(JOB)["failure_stage"] == "publish"


def test_a_lie_is_caught_on_a_rerun_too(pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder)
    hub.tamper.tree_xet_hash("ada/model", "model.safetensors", "1" * 64)
    with pytest.raises(VerifyMismatchError, match=r"model.safetensors: xet hash 1111"):
        pod.finalize(folder)


@pytest.mark.parametrize("restore_mtime", [False, True])
@pytest.mark.parametrize("path", ["model.safetensors", "config.json", "README.md"])
def test_a_file_that_changes_between_hashing_and_commit_is_never_published(
    path, restore_mtime, pod, hub, trained, monkeypatch
):
    from agent.hub import content

    folder, deliver = trained("sft_full"), content.deliver

    def deliver_then_change(*args, **kwargs):
        delivery = deliver(*args, **kwargs)
        file = folder / path
        before = file.stat()
        file.write_bytes(bytes(reversed(file.read_bytes())))
        if restore_mtime:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        return delivery

    monkeypatch.setattr(content, "deliver", deliver_then_change)
    with pytest.raises(ArtifactError, match=f"{path} .*changed while being read"):
        pod.finalize(folder, JOB_ID=JOB)
    assert commits(hub) == []
    assert pod.row(JOB)["status"] == "failed"


def test_at_most_fourteen_api_calls_for_250_files(pod, hub, trained):
    folder = trained("sft_lora")
    for number in range(250 - len(ADAPTER)):
        (folder / f"label-{number:03}.json").write_text(f'"{number}"')
    pod.finalize(folder, HF_REPO_NAME="model")
    first = [r for r in hub.requests if r.kind != "cas"]
    assert len(first) <= 14
    retrain(folder, random.Random(1))
    since = len(hub.requests)
    pod.finalize(folder, HF_REPO_NAME="model")
    assert len([r for r in hub.requests[since:] if r.kind != "cas"]) <= 14
    assert len(commits(hub)) == 2


def test_more_files_than_one_preupload_call_takes(pod, hub, trained):
    folder = trained("sft_lora")
    for number in range(600):
        (folder / f"label-{number:03}.json").write_text(f'"{number}"')
    hub.tree_page = 100
    assert pod.finalize(folder).files == 600 + len(ADAPTER) + 1


def test_without_xet_the_content_goes_up_as_plain_lfs(pod, hub, trained):
    hub.xet_enabled = False
    outcome = pod.finalize(trained("sharded"))
    assert outcome.published
    assert not [r for r in hub.requests if r.kind == "cas"]
    assert outcome.uploaded_bytes >= 107_000


def test_with_an_unreachable_xet_host_the_content_goes_up_as_plain_lfs(pod, hub, trained):
    hub.cas_reachable = False
    outcome = pod.finalize(trained("sft_full"))
    assert outcome.published
    assert [r for r in hub.requests if r.kind == "lfs" and r.method == "PUT"]


def test_a_large_file_goes_up_by_lfs_in_parts(pod, hub, trained):
    hub.xet_enabled = False
    hub.multipart_over, hub.multipart_chunk = 50_000, 20_000
    folder = trained("sft_full")
    assert pod.finalize(folder).published
    assert hub.read("ada/model", "model.safetensors") == (folder / "model.safetensors").read_bytes()


def test_content_by_lfs_that_changed_after_its_hash_is_refused_by_the_storage(pod, hub, trained, monkeypatch):
    from agent.hub import lfs

    hub.xet_enabled = False
    folder = trained("sft_full")
    counted = lfs.CommitOperationAdd

    def hash_then_change(**given):
        operation = counted(**given)
        target = folder / "model.safetensors"
        with target.open("r+b") as stream:
            stream.seek(50_000)
            stream.write(os.urandom(100))
        return operation

    monkeypatch.setattr(lfs, "CommitOperationAdd", hash_then_change)
    with pytest.raises((HubRefusedError, ArtifactError)):
        pod.finalize(folder)
    assert commits(hub) == []


def test_a_gitignore_on_the_hub_is_an_error_not_an_omission(pod, hub, trained):
    hub.create_repo("ada/model", private=True)
    hub.commit("ada/model", {".gitignore": b"*.safetensors\n"})
    with pytest.raises(HubRefusedError, match=r"model\.safetensors"):
        pod.finalize(trained("sft_full"))
    assert commits(hub) == []


def test_another_branch_is_made_and_named_in_the_address(pod, hub, trained):
    outcome = pod.finalize(trained("sft_full"), HF_REVISION="dev")
    assert outcome.model_url == f"{hub.endpoint}/ada/model/tree/dev"
    assert len(commits(hub, branch="dev")) == 1
    assert commits(hub, branch="main") == []


def test_an_organisation_s_repo(pod, hub, trained):
    assert pod.finalize(trained("sft_full"), HF_REPO_NAME="lab/model").repo_id == "lab/model"


def test_new_repos_are_private_unless_public_was_asked_for(pod, hub, trained):
    pod.finalize(trained("sft_full"), HF_REPO_NAME="ada/unset")
    pod.finalize(trained("sft_full", "b"), HF_REPO_NAME="ada/open", HF_REPO_PRIVATE="false")
    assert (hub.repo("ada/unset").private, hub.repo("ada/open").private) == (True, False)


def test_an_existing_public_repo_is_kept_when_nothing_was_asked(pod, hub, trained):
    hub.create_repo("ada/model", private=False)
    assert pod.finalize(trained("sft_full")).published
    assert hub.repo("ada/model").private is False


@pytest.mark.parametrize(("is_private", "asked"), [(False, "true"), (True, "false")])
def test_the_wrong_visibility_is_refused_before_a_byte_is_sent(is_private, asked, pod, hub, trained):
    hub.create_repo("ada/model", private=is_private)
    with pytest.raises(HubRefusedError, match="HF_REPO_PRIVATE"):
        pod.finalize(trained("sft_full"), HF_REPO_PRIVATE=asked)
    assert {request.method for request in hub.requests} == {"GET"}


def test_a_public_repo_is_refused_even_if_it_holds_the_model_already(pod, hub, trained):
    hub.create_repo("ada/model", private=False)
    folder = trained("sft_full")
    pod.finalize(folder)
    with pytest.raises(HubRefusedError, match="is public"):
        pod.finalize(folder, HF_REPO_PRIVATE="true")


def test_the_library_s_own_log_goes_through_ours(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    assert logging.getLogger("huggingface_hub").handlers == []
    assert logging.getLogger("huggingface_hub").propagate


def test_a_full_private_quota_is_permanent_and_says_so(pod, hub, trained):
    hub.full_private.add("ada")
    with pytest.raises(HubRefusedError, match="storage limit"):
        pod.finalize(trained("sft_full"), JOB_ID=JOB)
    assert pod.row(JOB)["status"] == "failed"


def test_without_a_token_the_job_completes_without_an_address(pod, hub, trained):
    outcome = pod.finalize(trained("sft_full"), HF_TOKEN="", JOB_ID=JOB)
    assert (outcome.result, outcome.published) == ("skipped", False)
    row = pod.row(JOB)
    assert (row["status"], row["model_url"]) == ("completed", None)
    assert "HF_TOKEN" in row["result_note"]
    assert hub.requests == []
    # A completed row may still receive its address, once.
    pod.finalize(trained("sft_full", "later"), JOB_ID=JOB)
    assert pod.row(JOB)["model_url"] == f"{hub.endpoint}/ada/model"


def test_a_cancelled_job_is_not_published(pod, hub, trained):
    row = pod.state_dir / JOB / "row.json"
    row.parent.mkdir(parents=True)
    row.write_text(json.dumps({"id": JOB, "status": "cancelled"}))
    with pytest.raises(JobRefusedError, match="cancelled"):
        pod.finalize(trained("sft_full"), JOB_ID=JOB)
    assert {request.method for request in hub.requests} <= {"GET"}  # it is looked at beside the row
    assert json.loads(row.read_text())["status"] == "cancelled"


def test_a_row_that_cannot_be_written_does_not_unpublish_the_model(pod, hub, trained, tmp_path):
    pod.state_dir = tmp_path / "file"
    pod.state_dir.write_text("not a folder")
    outcome = Outcome()
    with pytest.raises(JobRefusedError):
        pod.finalize(trained("sft_full"), outcome)
    assert outcome.published


def test_a_stranger_s_commit_in_between_is_kept(pod, hub, trained, monkeypatch):
    """The branch moves after we looked: 412, then our commit lands on the stranger's."""
    make = publication.make

    def make_while_a_stranger_commits(*args, **kwargs):
        made = make(*args, **kwargs)
        hub.commit("ada/model", {"notes.md": b"mine", "model.safetensors": b"theirs", "old.gguf": b"x"})
        return made

    monkeypatch.setattr(story.publication, "make", make_while_a_stranger_commits)
    folder = trained("sft_full")
    pod.finalize(folder)
    assert [r.status for r in hub.requests if "/commit/" in r.path] == [412, 200]
    assert hub.read("ada/model", "notes.md") == b"mine"
    assert hub.read("ada/model", "model.safetensors") == (folder / "model.safetensors").read_bytes()
    assert "old.gguf" not in hub.repo("ada/model").commits("main")[0].tree


def test_an_upload_forgotten_before_the_commit_is_sent_again_in_the_same_run(pod, hub, trained):
    folder = trained("sft_full")
    fault = hub.faults.add(Fault("forget", match="POST /api/models/ada/model/commit", nth=0))
    outcome = pod.finalize(folder)
    assert fault.fired == 1
    assert outcome.uploaded_bytes >= 2 * (folder / "model.safetensors").stat().st_size
    assert hub.read("ada/model", "model.safetensors") == (folder / "model.safetensors").read_bytes()
    assert len(commits(hub)) == 1


def test_an_upload_that_is_always_forgotten_is_never_called_published(pod, hub, trained):
    fault = hub.faults.add(Fault("forget", match="POST /api/models/ada/model/commit"))
    with pytest.raises(HubRefusedError, match="does not exist"):
        pod.finalize(trained("sft_full"))
    assert fault.fired == 2
    assert commits(hub) == []
