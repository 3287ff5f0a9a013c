"""`verify`: a repo that is as it was published passes, and whatever is not so is named with its cure."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import struct
import tracemalloc

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from agent import ending
from agent.config import load
from agent.hub.download import Content
from agent.retry import Patience
from agent.sandbox.hub import Fault, Hub
from agent.verification import Verification, verify
from agent.verification.view import show
from tests.conftest import FIXTURES, TOKEN, retrain
from tests.layouts import LAYOUTS, UNPUBLISHABLE

REPO = "ada/model"
JOB, OTHER = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab", "0b0b0b0b-1111-4a3b-9c5e-0123456789ab"
RUNS = sorted(path.name for path in FIXTURES.iterdir())


def verified(pod, *, against=None, revision=None, download=False, stall_s=900.0, **environ):
    """Verify in this process, over real HTTP, without waiting between retries: exit code and answer."""
    answer = Verification(against=against, revision=revision, download=download)
    given = {name: value for name, value in pod.environ("/nowhere", **environ).items() if value}
    clock = pod.clock
    patience = Patience(stall_s, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    code = ending.told(lambda: verify(load(given), answer, patience), answer, lambda: None)
    return code, answer


def found(answer):
    return [(flaw.path, flaw.verdict) for flaw in answer.flaws]


def refused(answer, path):
    """What was found of a file, and the cures, when that is all that is refused."""
    flaws = [flaw for flaw in answer.flaws if flaw.refuses]
    assert {flaw.path for flaw in flaws} == {path}
    assert all(flaw.cure for flaw in flaws)
    return flaws[0].found, flaws[0].cure


def commit(hub, files, **more):
    return hub.commit(REPO, files, **more)


def manifest(hub, revision="main"):
    return json.loads(hub.read(REPO, "finalize.json", revision))


def changed_manifest(hub, change):
    """Commit a manifest of which `change` was made."""
    document = manifest(hub)
    change(document)
    return commit(hub, {"finalize.json": json.dumps(document).encode()})


@pytest.mark.parametrize("name", RUNS)
def test_what_finalize_published_has_no_flaw(name, pod, hub, trained):
    folder = trained(name)
    outcome = pod.finalize(folder, JOB_ID=JOB)
    for against in (None, folder):
        for download in (False, True):
            code, answer = verified(pod, against=against, download=download)
            assert (code, answer.flaws, answer.error) == (0, [], None)
            assert answer.commit == outcome.commit
    files = answer.as_json()["files"]
    assert {file["path"] for file in files if file["verdict"] == "proven"} == {
        one["path"] for one in manifest(hub)["files"]
    }
    assert [file["path"] for file in files if file["verdict"] == "other"] == [".gitattributes"]
    assert [file["path"] for file in files if file["verdict"] == "witness"] == ["finalize.json"]


@pytest.mark.parametrize("name", ["sft_lora", "sharded"])
def test_what_went_up_as_plain_lfs_has_no_flaw(name, pod, hub, trained):
    hub.xet_enabled = False
    folder = trained(name)
    pod.finalize(folder)
    assert verified(pod)[0] == verified(pod, against=folder, download=True)[0] == 0


def test_a_page_with_plots_has_no_flaw(plots, pod, hub, trained):
    folder = trained("dpo_lora")
    process = pod.command(folder)
    process.communicate(timeout=120)
    assert [one for one in manifest(hub)["files"] if "xet_hash" in one]
    for against in (None, folder):
        code, answer = verified(pod, against=against)
        assert (code, answer.flaws) == (0, [])


@pytest.mark.filterwarnings("ignore:Warnings while validating metadata")  # of GGUF nothing is known to tell
@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - set(UNPUBLISHABLE)))
def test_no_layout_that_finalize_publishes_is_refused(name, pod, hub, tmp_path):
    folder = tmp_path / "layout"
    LAYOUTS[name].make(folder)
    outcome = pod.finalize(folder, AGENT_ALLOW_PICKLE="true", AGENT_ALLOW_PARTIAL="true")
    assert outcome.published
    for against in (None, folder):
        code, answer = verified(pod, against=against, AGENT_ALLOW_PICKLE="true", AGENT_ALLOW_PARTIAL="true")
        assert (code, [flaw for flaw in answer.flaws if flaw.refuses]) == (0, [])


def test_a_person_s_own_files_and_words_are_no_flaw(pod, hub, trained):
    hub.create_repo(REPO, private=True)
    commit(hub, {"LICENSE": b"mine", "old/model.safetensors": b"cut", "README.md": b"# Mine\n\nWords.\n"})
    folder = trained("sharded")
    pod.finalize(folder)
    assert verified(pod)[1].flaws == verified(pod, against=folder, download=True)[1].flaws == []
    card = hub.read(REPO, "README.md").decode()
    commit(hub, {"README.md": card.replace("Words.", "More words.").encode(), "notes.txt": b"later"})
    for against in (None, folder):
        code, answer = verified(pod, against=against, download=True)
        assert (code, found(answer)) == (0, [("README.md", "note")])
        verdicts = {file["path"]: file["verdict"] for file in answer.as_json()["files"]}
        assert {verdicts[path] for path in ("LICENSE", "notes.txt", "old/model.safetensors")} == {"other"}
        assert verdicts["README.md"] == "note"


LIES = {
    "hash": ("model.safetensors", lambda t: t.tree_sha256(REPO, "model.safetensors", "0" * 64), "sha256 00"),
    "size": ("model.safetensors", lambda t: t.tree_size(REPO, "model.safetensors", 17), "17 bytes instead"),
    "small size": ("tokenizer.json", lambda t: t.tree_size(REPO, "tokenizer.json", 17), "17 bytes instead"),
    "blob": ("config.json", lambda t: t.tree_oid(REPO, "config.json", "2" * 40), "git blob 222"),
    "missing": ("tokenizer.json", lambda t: t.hide(REPO, "tokenizer.json"), "missing"),
    "missing page": ("README.md", lambda t: t.hide(REPO, "README.md"), "missing"),
    "extra": ("model.gguf", lambda t: t.extra(REPO, "model.gguf"), "no file of this publication"),
}  # fmt: skip


def test_a_name_in_a_repo_is_never_part_of_a_command_or_of_a_terminal(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    evil = "m$(reboot) \x1b[2J.gguf"
    hub.tamper.extra(REPO, evil)
    code, answer = verified(pod)
    [flaw] = answer.flaws
    assert (code, flaw.path) == (14, evil)
    assert f"ada/model '{evil}'`" in flaw.cure
    shown = seen(answer) + answer.error["message"] + answer.error["hint"]
    assert "m$(reboot)  [2J.gguf" in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_is_not_as_published_is_named_with_its_cure(lie, pod, hub, trained):
    path, tell, words = LIES[lie]
    folder = trained("sft_full")
    outcome = pod.finalize(folder, JOB_ID=JOB)
    tell(hub.tamper)
    for against in (None, folder):
        code, answer = verified(pod, against=against)
        said, cure = refused(answer, path)
        assert (code, answer.as_json()["result"]) == (14, "mismatch")
        assert words in said
        if lie == "extra":
            assert cure == "Delete it: `hf repos delete-files ada/model model.gguf`"
        else:  # the publication itself is not there as it was
            assert f"report commit {outcome.commit}" in cure
            assert 'training-agent finalize --repo ada/model --job-id "$(uuidgen)"' in cure
        for words_of in (answer.error["message"], answer.error["hint"]):
            assert "ada/model" in words_of
        assert str(outcome.commit) in answer.error["message"]
        assert path in answer.error["message"]


def test_other_xet_content_under_the_same_sha256_is_found_from_the_folder(pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder)
    hub.tamper.tree_xet_hash(REPO, "model.safetensors", "1" * 64)
    code, answer = verified(pod, against=folder)
    assert code == 14
    assert "xet hash 111" in refused(answer, "model.safetensors")[0]


def test_what_a_stranger_changed_comes_back_by_rolling_back(pod, hub, trained):
    outcome = pod.finalize(trained("sft_full"))
    later = commit(hub, {"tokenizer.json": b'{"model": {}}', "config.json": None})
    code, answer = verified(pod)
    cures = {flaw.path: flaw.cure for flaw in answer.flaws}
    assert (code, answer.commit, cures.keys()) == (14, later, {"tokenizer.json", "config.json"})
    cure = f"Bring back what was published: `training-agent rollback ada/model --to {outcome.commit}`"
    assert set(cures.values()) == {cure}
    assert found(verified(pod, download=True)[1]) == found(answer)
    assert verified(pod, revision=outcome.commit)[0] == 0


def test_the_cures_of_another_branch_name_it(pod, hub, trained):
    outcome = pod.finalize(trained("sft_full"), HF_REVISION="run-7")
    commit(hub, {"config.json": None, "model.gguf": b"GGUF"}, branch="run-7")
    code, answer = verified(pod, revision="run-7")
    cures = {flaw.path: flaw.cure for flaw in answer.flaws}
    assert (code, answer.model_url) == (14, f"{hub.endpoint}/ada/model/tree/run-7")
    assert f"rollback ada/model --to {outcome.commit} --revision run-7" in cures["config.json"]
    assert "delete-files ada/model model.gguf --revision run-7" in cures["model.gguf"]


def cut(content, left):
    return content[: len(content) - left]


def test_a_shard_that_is_cut_is_found_by_its_header_though_the_manifest_says_so(pod, hub, trained):
    """A manifest that lies is no help to a file that is not whole."""
    pod.finalize(trained("sharded"))
    shard = "model-00002-of-00004.safetensors"
    content = cut(hub.read(REPO, shard), 100)
    commit(hub, {shard: content})
    code, answer = verified(pod)
    assert code == 14
    assert [flaw.path for flaw in answer.flaws] == [shard, shard]
    assert "is cut short" in answer.flaws[1].found

    def lie(document):
        for one in document["files"]:
            if one["path"] == shard:
                one |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    changed_manifest(hub, lie)
    code, answer = verified(pod)
    assert code == 14
    assert "is cut short" in refused(answer, shard)[0]


def test_a_shard_that_the_index_names_is_missed_also_if_the_manifest_forgot_it(pod, hub, trained):
    outcome = pod.finalize(trained("sharded"))
    shard = "model-00003-of-00004.safetensors"
    commit(hub, {shard: None})
    changed_manifest(hub, lambda one: one.update(files=[f for f in one["files"] if f["path"] != shard]))
    code, answer = verified(pod)
    assert code == 14
    said, cure = refused(answer, "model.safetensors.index.json")
    assert shard in said
    assert f"rollback ada/model --to {outcome.commit}" in cure


def test_a_header_longer_than_the_first_request_brings_is_read_whole(pod, hub, trained):
    hub.create_repo(REPO)
    header = json.dumps(
        {f"{'layer' * 40}.{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(900)}
    ).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(900)
    assert len(header) > 1 << 17
    files = {"model.safetensors": content, "config.json": b"{}", "README.md": b"---\nlicense: mit\n---\n"}
    commit(hub, files)
    assert found(verified(pod)[1]) == [("finalize.json", "refused")]
    commit(hub, {"model.safetensors": cut(content, 1)})
    assert [flaw.found for flaw in verified(pod)[1].flaws if "is cut short" in flaw.found]


def test_without_a_manifest_the_structure_is_judged_and_the_folder_is_the_cure(pod, hub, trained):
    folder = trained("sharded")
    pod.finalize(folder)
    commit(hub, {"finalize.json": None})
    code, answer = verified(pod)
    assert code == 14
    assert (
        refused(answer, "finalize.json")[1]
        == "Compare with the folder it came from: `training-agent verify ada/model --against DIR`"
    )
    code, answer = verified(pod, against=folder)
    assert (code, found(answer)) == (0, [("finalize.json", "note")])
    verdicts = {file["path"]: file["verdict"] for file in answer.as_json()["files"]}
    assert (verdicts["config.json"], verdicts["README.md"], verdicts["finalize.json"]) == (
        "proven", "other", "note"
    )  # fmt: skip
    commit(hub, {"model-00001-of-00004.safetensors": None, "config.json": None})
    missing = {flaw.path for flaw in verified(pod)[1].flaws}
    assert missing == {"finalize.json", "model.safetensors.index.json", "config.json"}


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "job": "j", "finalize_id": "f"}']
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(content, pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder)
    commit(hub, {"finalize.json": content})
    for against in (None, folder):
        code, answer = verified(pod, against=against)
        assert code == 14
        refused(answer, "finalize.json")


@pytest.mark.parametrize(
    ("gone", "path", "words"),
    [
        ({"model.safetensors.index.json": None}, "model-00001-of-00004.safetensors", "no index is there"),
        ({"config.json": b"{"}, "config.json", "is damaged"),
        ({"model-00001-of-00004.safetensors": b""}, "model-00001-of-00004.safetensors", "is empty"),
        ({"unet/weights.safetensors": b"cut"}, "unet/weights.safetensors", "is cut short"),
        ({"README.md": b"# Words\n"}, "README.md", "has no metadata at its head"),
    ],
    ids=["shards without an index", "config that is none", "empty", "below a folder", "page"],
)
def test_a_model_without_a_manifest_is_judged_like_an_output_folder(gone, path, words, pod, hub, trained):
    pod.finalize(trained("sharded"))
    commit(hub, {"finalize.json": None, **gone})
    since = len(hub.requests)
    code, answer = verified(pod)
    assert code == 14
    assert [flaw for flaw in answer.flaws if flaw.path == path and words in flaw.found]
    assert (words == "is empty") != any(r.path.endswith(path) for r in hub.requests[since:])


def test_each_difference_is_told_once_and_each_document_asked_for_once(pod, hub, trained):
    folder = trained("sft_lora")
    pod.finalize(folder)
    config = json.loads(hub.read(REPO, "adapter_config.json")) | {"lora_alpha": 99}
    commit(hub, {"adapter_config.json": json.dumps(config).encode(), "chat_template.jinja": b"other"})
    since = len(hub.requests)
    code, answer = verified(pod, against=folder)
    assert code == 14
    assert found(answer) == [("adapter_config.json", "refused"), ("chat_template.jinja", "refused")]
    asked = [r.path.rpartition("/")[2] for r in hub.requests[since:] if r.kind == "resolve"]
    assert len(asked) == len(set(asked))


def test_a_lie_of_the_hub_is_not_cured_by_rolling_back_other_people_s_files(pod, hub, trained):
    pod.finalize(trained("sharded"))
    commit(hub, {"notes.txt": b"later"})
    hub.tamper.tree_size(REPO, "model-00001-of-00004.safetensors", 17)
    code, answer = verified(pod)
    assert code == 14
    assert len(answer.flaws) == 2
    assert all(flaw.cure.startswith("Do not use it. ") for flaw in answer.flaws)


def test_an_adapter_config_that_is_none_differs_from_the_folder_s(pod, hub, trained):
    folder = trained("sft_lora")
    pod.finalize(folder)
    commit(hub, {"finalize.json": None, "adapter_config.json": b"[]"})
    code, answer = verified(pod, against=folder)
    said = [flaw.found for flaw in answer.flaws if flaw.path == "adapter_config.json"]
    assert code == 14
    assert [one for one in said if one.endswith("in more than its base model")]


def test_hashes_of_a_folder_are_remembered_for_the_next_time(pod, hub, trained, monkeypatch):
    folder = trained("sft_full")
    pod.finalize(folder)
    monkeypatch.setattr("agent.hashes.RACY_NS", -(10**18))
    verified(pod, against=folder)
    remembered = json.loads((pod.state_dir / "hashes.json").read_text())
    assert remembered[str(folder / "model.safetensors")]["sha256"]


def test_an_adapter_without_its_config_is_refused_without_any_manifest(pod, hub, trained):
    pod.finalize(trained("sft_lora"))
    commit(hub, {"finalize.json": None, "adapter_config.json": None})
    code, answer = verified(pod)
    assert code == 14
    assert "adapter_config.json" in next(
        flaw.found for flaw in answer.flaws if flaw.path == "adapter_model.safetensors"
    )


def test_a_manifest_without_blob_ids_is_answered_by_reading_the_small_files(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    assert {one["path"] for one in manifest(hub)["files"] if "blob_id" in one} == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    since = len(hub.requests)
    verified(pod)
    assert not [r for r in hub.requests[since:] if r.path.endswith("/tokenizer_config.json")]

    def older(document):
        for one in document["files"]:
            one.pop("blob_id", None)

    changed_manifest(hub, older)
    since = len(hub.requests)
    assert verified(pod)[0] == 0
    assert [r for r in hub.requests[since:] if r.path.endswith("/tokenizer_config.json")]
    same_size = hub.read(REPO, "tokenizer_config.json")[::-1]
    commit(hub, {"tokenizer_config.json": same_size})
    code, answer = verified(pod)
    assert code == 14
    assert refused(answer, "tokenizer_config.json")[0].startswith("sha256 ")


def test_the_card_of_another_job_is_stale(pod, hub, trained):
    pod.finalize(trained("sft_full"), JOB_ID=OTHER)
    old = hub.read(REPO, "README.md")
    outcome = pod.finalize(trained("sharded"), JOB_ID=JOB)
    commit(hub, {"README.md": old})
    code, answer = verified(pod)
    said, cure = refused(answer, "README.md")
    assert code == 14
    assert f"is a stale card: it speaks of job {OTHER} at job-0b0b0b0b; job {JOB}" in said
    assert f"rollback ada/model --to {outcome.commit}" in cure


def test_the_card_of_an_earlier_training_of_the_same_job_is_stale(pod, hub, trained):
    folder = trained("sft_full")
    first = pod.finalize(folder, JOB_ID=JOB)
    retrain(folder, random.Random(3))
    (folder / "README.md").write_text("# Again\n")
    pod.finalize(folder, JOB_ID=JOB)
    commit(hub, {"README.md": hub.read(REPO, "README.md", first.commit)})
    code, answer = verified(pod)
    assert code == 14
    assert f"it is that of commit {first.commit}" in refused(answer, "README.md")[0]


def test_a_card_without_our_section_is_stale(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    commit(hub, {"README.md": b"---\nlicense: mit\n---\n\n# Mine\n"})
    code, answer = verified(pod)
    assert code == 14
    assert "has no section of ours" in refused(answer, "README.md")[0]


def test_the_hub_s_words_about_metadata_are_kept(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    card = hub.read(REPO, "README.md").decode()
    commit(hub, {"README.md": card.replace("---\n", "---\nlicense: [1]\n", 1).encode()})
    code, answer = verified(pod)
    said, cure = refused(answer, "README.md")
    assert code == 14
    assert '"license" must be a string' in said
    assert {file["verdict"] for file in answer.as_json()["files"] if file["path"] == "README.md"} == {
        "refused"
    }
    assert found(answer) == [("README.md", "note"), ("README.md", "refused")]
    assert cure == f"Correct it at {hub.endpoint}/ada/model/edit/main/README.md"


def test_a_page_that_lost_its_metadata_is_refused(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    body = re.sub(r"\A---\n.*?\n---\n", "", hub.read(REPO, "README.md").decode(), flags=re.DOTALL)
    commit(hub, {"README.md": body.encode()})
    code, answer = verified(pod)
    assert (code, refused(answer, "README.md")[0]) == (14, "has no metadata at its head")


@pytest.mark.parametrize(
    ("base", "why"), [("meta/gone", "it is not on the Hub"), ("/workspace/base", "a path, which no reader")]
)
def test_a_base_that_nobody_can_follow_is_refused(base, why, pod, hub, trained):
    hub.add_model("meta/llama")
    pod.finalize(trained("sft_lora"), BASE_MODEL="meta/llama")
    assert verified(pod)[1].flaws == []
    config = json.loads(hub.read(REPO, "adapter_config.json")) | {"base_model_name_or_path": base}
    commit(hub, {"adapter_config.json": json.dumps(config).encode()})
    code, answer = verified(pod)
    assert code == 14
    assert [flaw.path for flaw in answer.flaws] == ["adapter_config.json"] * 2
    assert f"names the base model '{base}': {why}" in answer.flaws[1].found


def test_a_base_that_an_adapter_in_a_folder_names_is_a_note(pod, hub, tmp_path):
    LAYOUTS["trl-named-adapters"].make(tmp_path / "layout")
    pod.finalize(tmp_path / "layout", AGENT_ALLOW_PARTIAL="true")
    code, answer = verified(pod)
    assert code == 0
    assert answer.flaws
    assert all(flaw.verdict == "note" and "names the base model" in flaw.found for flaw in answer.flaws)


def test_the_cure_for_an_unknown_base_works(pod, hub, trained):
    folder = trained("sft_lora")
    pod.finalize(folder, BASE_MODEL="meta/llama", JOB_ID=JOB)
    code, answer = verified(pod)
    assert (code, {flaw.path for flaw in answer.flaws}) == (14, {"adapter_config.json"})
    assert (
        'AGENT_ALLOW_STALE=true training-agent finalize --repo ada/model --base-model NAMESPACE/NAME '
        '--job-id "$(uuidgen)"'
    ) in answer.flaws[0].cure  # fmt: skip
    hub.add_model("ada/base")
    pod.finalize(folder, BASE_MODEL="ada/base", JOB_ID=OTHER, AGENT_ALLOW_STALE="true")
    assert verified(pod)[1].flaws == []


def test_a_manifest_kept_elsewhere_is_a_witness_that_nobody_changes(pod, hub, trained, tmp_path):
    outcome = pod.finalize(trained("sft_full"), JOB_ID=JOB)
    kept = tmp_path / "kept.json"
    kept.write_bytes(hub.read(REPO, "finalize.json"))
    code, answer = verified(pod, against=kept)
    assert (code, answer.flaws, answer.as_json()["against"]) == (0, [], str(kept))
    assert {file["verdict"] for file in answer.as_json()["files"]} == {"proven", "other"}
    pod.finalize(trained("sharded"), JOB_ID=OTHER)
    code, answer = verified(pod, against=kept)
    flaws = {flaw.path: flaw for flaw in answer.flaws}
    assert code == 14
    assert flaws["finalize.json"].found == f"is not the one in {kept}"
    assert "`training-agent verify ada/model --revision job-7d9f5f5c`" in flaws["finalize.json"].cure
    assert flaws["model.safetensors"].found == "missing"
    assert "no file of this publication" in flaws["model-00001-of-00004.safetensors"].found
    code, answer = verified(pod, against=kept, revision="job-7d9f5f5c")
    assert (code, answer.commit) == (0, outcome.commit)
    commit(hub, {"finalize.json": None}, branch="main")
    assert "missing" in {f.found for f in verified(pod, against=kept)[1].flaws if f.path == "finalize.json"}


@pytest.mark.parametrize("content", [None, b"{}", b"\xff"])
def test_a_witness_that_cannot_be_used_is_a_wrong_flag(content, pod, hub, trained, tmp_path):
    hub.create_repo(REPO)
    path = tmp_path / "kept.json"
    if content is not None:
        path.write_bytes(content)
    code, answer = verified(pod, against=path)
    assert (code, answer.as_json()["result"]) == (10, "failed")
    assert answer.error["message"].startswith(f"--against: {path} ")


def test_a_folder_that_holds_no_model_is_no_witness(pod, hub, tmp_path):
    hub.create_repo(REPO)
    (tmp_path / "empty").mkdir()
    assert verified(pod, against=tmp_path / "empty")[0] == 11


def test_a_folder_that_is_not_what_was_published_is_told_apart(pod, hub, trained):
    folder = trained("sft_lora")
    pod.finalize(folder)
    other = trained("sft_lora", "other")
    retrain(other, random.Random(5))
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 99}))
    (other / "chat_template.jinja").unlink()
    code, answer = verified(pod, against=other)
    flaws = {flaw.path: flaw.found for flaw in answer.flaws}
    assert code == 14
    assert flaws.keys() == {"adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"}
    assert flaws["adapter_model.safetensors"].startswith("sha256 ")
    assert flaws["adapter_config.json"].endswith("in more than its base model")
    assert flaws["chat_template.jinja"] == f"is not in {other}"
    assert [flaw.cure[:15] for flaw in answer.flaws if "jinja" in flaw.path] == ["If AGENT_FILES,"]


def test_what_was_added_from_elsewhere_is_compared_when_it_is_named_again(pod, hub, trained, tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    folder, more = trained("sft_full"), {"AGENT_FILES": f"{tmp_path / 'notes.txt'}:docs/notes.txt"}
    pod.finalize(folder, **more)
    assert verified(pod, against=folder, **more)[1].flaws == []
    code, answer = verified(pod, against=folder)
    assert (code, refused(answer, "docs/notes.txt")[0]) == (14, f"is not in {folder}")


SERVED = {
    "other bytes": (lambda content: content[:-1] + b"\x01", "the hash of its bytes is "),
    "fewer": (lambda content: content[:-7], "can be downloaded, "),
    "none": (lambda content: b"", "can be downloaded, "),
    "more": (lambda content: content + bytes(9), "more can be downloaded than the "),
}


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json", "LICENSE"])
@pytest.mark.parametrize("lie", SERVED)
def test_bytes_that_are_not_those_that_are_listed_are_found_by_reading_them(lie, path, pod, hub, trained):
    hub.create_repo(REPO, private=True)
    commit(hub, {"LICENSE": b"somebody's own file"})
    pod.finalize(trained("sft_full"))
    change, words = SERVED[lie]
    hub.tamper.serve(REPO, path, change(hub.read(REPO, path)))
    if lie != "none" or path != "model.safetensors":  # of that one the header is missed already
        assert verified(pod)[0] == 0
    code, answer = verified(pod, download=True)
    assert code == 14
    refused(answer, path)
    assert words in answer.flaws[-1].found


def test_bytes_are_held_against_the_folder_where_the_listing_proves_nothing(pod, hub, trained):
    """A manifest and a listing that agree on a blob id may disagree on the bytes behind it."""
    pod.finalize(trained("sft_full"))

    def lie(document):
        for one in document["files"]:
            if one["path"] == "tokenizer.json":
                one["sha256"] = "0" * 64

    changed_manifest(hub, lie)
    assert verified(pod)[0] == 0
    code, answer = verified(pod, download=True)
    assert code == 14
    assert f"instead of {'0' * 64}" in refused(answer, "tokenizer.json")[0]


def test_content_that_storage_lost_is_found_by_reading_it(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    fault = hub.faults.add(Fault("status", match="resolve/.*/tokenizer.json", status=404))
    code, answer = verified(pod, download=True)
    assert fault.fired == 1
    assert code == 14
    assert "is listed, but cannot be downloaded: the Hub answered 404" in refused(answer, "tokenizer.json")[0]


@pytest.mark.parametrize(
    "path", ["README.md", "finalize.json", "adapter_config.json", "adapter_model.safetensors"]
)
def test_a_file_that_is_listed_and_not_handed_out_is_a_flaw_of_that_file(path, pod, hub, trained):
    folder = trained("sft_lora")
    pod.finalize(folder)
    for against in (None, folder):
        fault = hub.faults.add(Fault("status", match=f"resolve/.*/{path}", status=404))
        code, answer = verified(pod, against=against)
        hub.faults.clear()
        assert fault.fired >= 1
        assert code == 14
        assert "the Hub answered 404" in refused(answer, path)[0]


def test_a_download_counts_every_byte_and_keeps_none(pod, hub, trained, tmp_path):
    pod.finalize(trained("sft_full"))
    before = set(tmp_path.rglob("*"))
    since = len(hub.requests)
    code, answer = verified(pod, download=True)
    sizes = sum(entry.size for entry in hub.repo(REPO).resolve("main").tree.values())
    read = sum(r.sent_bytes for r in hub.requests[since:] if r.kind == "resolve")
    assert (code, answer.as_json()["downloaded_bytes"]) == (0, read)
    assert read >= sizes
    assert set(tmp_path.rglob("*")) == before


def test_a_large_file_is_hashed_in_bounded_memory_and_every_piece_counts_as_progress(pod, hub, monkeypatch):
    hub.create_repo(REPO)
    commit(hub, {"data.bin": bytes(48_000_000), "README.md": b"---\nlicense: mit\n---\n"})
    verified(pod)
    moved = []

    def count(patience):
        moved.append(patience)

    monkeypatch.setattr(Patience, "progress", count)
    tracemalloc.start()
    try:
        code, answer = verified(pod, download=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (code, answer.as_json()["downloaded_bytes"] > 48_000_000) == (14, True)
    assert peak < 24_000_000
    assert len(moved) > 48


def test_the_token_is_not_handed_to_the_host_that_a_download_is_sent_on_to(pod, hub, trained, tmp_path):
    pod.finalize(trained("sft_full"))
    content = hub.read(REPO, "model.safetensors")
    with Hub(root=tmp_path / "elsewhere") as storage:
        storage.create_repo("a/b")
        storage.commit("a/b", {"model.safetensors": content})
        where = f"{storage.endpoint}/a/b/resolve/main/model.safetensors"
        fault = hub.faults.add(
            Fault("status", match="resolve/.*/model.safetensors", status=302, headers={"Location": where})
        )
        breaks = storage.faults.add(Fault("truncated", nth=1))
        code, answer = verified(pod, download=True)
        assert (code, answer.flaws) == (0, [])
        assert (fault.fired, breaks.fired) == (3, 1)
        assert [request.headers.get("range") for request in storage.requests] == [
            f"bytes=0-{len(content) - 1}", None, f"bytes={len(content) // 2}-"
        ]  # fmt: skip
        assert not [request for request in storage.requests if "authorization" in request.headers]
        assert not [request for request in storage.requests if TOKEN in str(request)]


def test_a_broken_download_goes_on_where_it_broke(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    size = len(hub.read(REPO, "model.safetensors"))
    match = "resolve/.*/model.safetensors"
    fault = hub.faults.add(Fault("truncated", match=match, nth={1, 2, 3}))
    since = len(hub.requests)
    code, answer = verified(pod, download=True)
    assert (code, answer.flaws, fault.fired) == (0, [], 3)
    reads = [r for r in hub.requests[since:] if r.path.endswith("model.safetensors")][1:]
    assert sum(r.sent_bytes for r in reads) == size
    begins = [int((r.headers.get("range") or "bytes=0-")[6:-1]) for r in reads]
    assert begins == sorted(set(begins))
    assert pod.clock.slept == [], "what moves need not wait"


def test_a_server_that_sends_all_of_a_file_when_a_part_was_asked_for_is_understood(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    match, whole = "resolve/.*/tokenizer.json", hub.read(REPO, "tokenizer.json").decode()
    breaks = hub.faults.add(Fault("truncated", match=match, nth=0))
    ignores = hub.faults.add(Fault("status", match=match, nth=1, status=200, body=whole))
    code, answer = verified(pod, download=True)
    assert (code, answer.flaws, breaks.fired, ignores.fired) == (0, [], 1, 1)
    ignores = hub.faults.add(Fault("status", match=match, nth=0, status=200, body=whole))
    content = Content(answer.examination._repo, str(answer.commit))
    assert (content.start("tokenizer.json", 5), ignores.fired) == (whole.encode()[:5], 1)


def test_only_the_beginning_is_read_of_a_server_that_sends_all_of_it(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    ignores = Fault("status", match="resolve/.*/model.safetensors", status=200, body="{" * 9_000_000)
    hub.faults.add(ignores)
    code, answer = verified(pod)
    assert (code, ignores.fired) == (14, 1)
    refused(answer, "model.safetensors")
    assert answer.as_json()["downloaded_bytes"] < 1_000_000


def test_a_part_that_nobody_asked_for_is_asked_for_again(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    match = "resolve/.*/model.safetensors"
    wrong = [{"Content-Range": "bytes 5-9/10"}, {}]
    faults = [
        hub.faults.add(Fault("status", match=match, nth=n, status=206, body="{" * 16, headers=headers))
        for n, headers in enumerate(wrong)
    ]
    code, answer = verified(pod)
    assert (code, answer.flaws, [fault.fired for fault in faults]) == (0, [], [1, 1])


def test_the_same_inputs_still_make_the_same_manifest(pod, hub, trained):
    made = []
    for name in ("one", "two"):
        pod.finalize(trained("sft_lora", name), JOB_ID=JOB)
        made.append(hub.read(REPO, "finalize.json"))
        del hub.repos[REPO]
    assert made[0] == made[1]


MISFORTUNES = {
    "503": {"kind": "status", "status": 503},
    "429": {"kind": "status", "status": 429, "retry_after": 3},
    "html": {"kind": "status", "status": 502, "body": "<html>"},
    "reset": {"kind": "reset"},
    "truncated": {"kind": "truncated"},
    "lost": {"kind": "lost"},
}
ROUTES = {
    "revision": "GET /api/models/ada/model/revision",
    "tree": "GET /api/models/ada/model/tree",
    "validate": "POST /api/validate-yaml",
    "base": "GET /api/models/meta/llama",
    "manifest": "resolve/.*/finalize.json",
    "header": "resolve/.*/adapter_model.safetensors",
    "page": "resolve/.*/README.md",
}


@pytest.mark.parametrize("misfortune", MISFORTUNES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_call_that_fails_is_asked_again(route, misfortune, pod, hub, trained):
    hub.add_model("meta/llama")
    pod.finalize(trained("sft_lora"), BASE_MODEL="meta/llama")
    fault = hub.faults.add(Fault(match=ROUTES[route], nth={0, 1}, **MISFORTUNES[misfortune]))
    code, answer = verified(pod, download=True)
    assert (code, answer.flaws, fault.fired) == (0, [], 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_hub_that_fails_a_third_of_the_time_is_told_the_same(seed, pod, hub, trained):
    pod.finalize(trained("sharded"))
    commit(hub, {"model-00002-of-00004.safetensors": None})
    kinds = ("503", "reset", "truncated", "lost")
    faults = [
        hub.faults.add(Fault(probability=0.1, seed=seed * 10 + n, **MISFORTUNES[kind]))
        for n, kind in enumerate(kinds)
    ]
    code, answer = verified(pod, download=True)
    assert sum(fault.fired for fault in faults) > 3
    assert (code, [flaw.path for flaw in answer.flaws]) == (
        14, ["model-00002-of-00004.safetensors", "model.safetensors.index.json"]
    )  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_a_hub_that_never_answers_is_unreachable_and_never_a_mismatch(route, pod, hub, trained):
    hub.add_model("meta/llama")
    pod.finalize(trained("sft_lora"), BASE_MODEL="meta/llama")
    fault = hub.faults.add(Fault("hang", match=ROUTES[route]))
    code, answer = verified(pod, stall_s=0.3)
    assert fault.fired >= 1
    assert (code, answer.error["code"], answer.as_json()["result"]) == (75, "hub-unreachable", "failed")
    assert answer.flaws == []


@pytest.mark.parametrize("misfortune", [{"kind": "hang"}, {"kind": "reset"}], ids=["hang", "reset"])
def test_a_download_of_which_no_byte_comes_is_given_up(misfortune, pod, hub, trained):
    pod.finalize(trained("sft_lora"))
    fault = hub.faults.add(Fault(match="resolve/.*/tokenizer.json", **misfortune))
    code, answer = verified(pod, download=True, stall_s=0.3)
    assert fault.fired >= 1
    assert (code, answer.as_json()["result"], answer.flaws) == (75, "failed", [])


@pytest.mark.parametrize(("status", "code"), [(401, 12), (403, 12), (400, 13)])
@pytest.mark.parametrize("route", ["revision", "tree", "manifest", "header", "page"])
def test_a_hub_that_says_no_is_no_mismatch(route, status, code, pod, hub, trained):
    pod.finalize(trained("sft_lora"))
    fault = hub.faults.add(Fault("status", match=ROUTES[route], status=status))
    found, answer = verified(pod)
    assert fault.fired == 1
    assert (found, answer.as_json()["result"]) == (code, "failed")
    assert f"the Hub answered {status}" in answer.error["message"]
    if code == 12:
        assert answer.error["hint"].startswith("Set HF_TOKEN to a token that may read ada/model")


def test_a_cure_that_cannot_be_looked_up_hides_no_flaw(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    commit(hub, {"config.json": None})
    fault = hub.faults.add(Fault("status", match="/commits/", status=403))
    code, answer = verified(pod)
    assert fault.fired == 1
    assert code == 14
    assert "Do not use it" in refused(answer, "config.json")[1]


def test_what_is_not_there_is_said_and_how_to_name_it(pod, hub):
    code, answer = verified(pod)
    assert (code, answer.error["code"]) == (13, "hub-refused")
    assert answer.error["message"].startswith("There is no repo ada/model on ")
    hub.create_repo(REPO)
    code, answer = verified(pod, revision="job-11111111")
    assert (code, answer.error["message"]) == (13, "ada/model has no revision job-11111111.")
    assert "--revision" in answer.error["hint"]


def test_a_public_repo_needs_no_token_and_a_private_one_says_so(pod, hub, trained):
    pod.finalize(trained("sft_full"), HF_REPO_PRIVATE="false")
    since = len(hub.requests)
    code, answer = verified(pod, download=True, HF_TOKEN="")
    assert (code, answer.flaws) == (0, [])
    assert not [r for r in hub.requests[since:] if "authorization" in r.headers]
    hub.repo(REPO).private = True
    code, answer = verified(pod, HF_TOKEN="")
    assert (code, answer.error["hint"]) == (
        12, "Set HF_TOKEN to a token that may read ada/model; without one only public repos are seen."
    )  # fmt: skip


def test_everything_is_asked_of_the_commit_that_the_revision_named_first(pod, hub, trained):
    """A branch that moves meanwhile does not mix two publications."""
    pod.finalize(trained("sft_full"))
    since = len(hub.requests)
    code, answer = verified(pod, download=True)
    asked = [r.path for r in hub.requests[since:] if "/tree/" in r.path or "/resolve/" in r.path]
    assert code == 0
    assert asked
    assert all(str(answer.commit) in path for path in asked)
    # An encoded body would be no stretch of the file.
    encodings = {r.headers["accept-encoding"] for r in hub.requests[since:] if r.kind == "resolve"}
    assert encodings == {"identity"}


def test_a_repo_of_many_files_is_read_page_by_page(pod, hub, trained):
    folder = trained("sft_full")
    for number in range(1100):
        (folder / f"extra-{number:04}.txt").write_text(f"file {number}")
    pod.finalize(folder)
    since = len(hub.requests)
    code, answer = verified(pod)
    assert (code, answer.flaws) == (0, [])
    assert len(answer.as_json()["files"]) == 1100 + 9
    assert [r.query for r in hub.requests[since:] if "/tree/" in r.path and "cursor" in r.query]
    assert len(hub.requests) - since <= 10
    commit(hub, {"extra-1099.txt": b"file 1098"})
    assert verified(pod)[0] == 14
    assert "git blob" in refused(verified(pod)[1], "extra-1099.txt")[0]


def test_a_copy_of_a_repo_passes_and_is_told_to_be_one(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    copy = {path: hub.read(REPO, path) for path in hub.repo(REPO).resolve("main").tree}
    hub.create_repo("ada/copy")
    hub.commit("ada/copy", copy)
    code, answer = verified(pod, HF_REPO_NAME="ada/copy")
    assert (code, found(answer)) == (0, [("finalize.json", "note")])
    assert "was made for ada/model" in answer.flaws[0].found


def seen(answer):
    console = Console(width=200, file=io.StringIO())
    show(answer, console)
    return console.file.getvalue()


def test_a_person_reads_two_lines_if_all_is_well(pod, hub, trained):
    outcome = pod.finalize(trained("sft_full"))
    lines = seen(verified(pod)[1]).splitlines()
    assert lines == [
        f"ada/model  main at {outcome.commit[:12]}, 9 files, {lines[0].split(', ')[-1]}",
        "Proven: 8 files are what finalize.json says.",
    ]
    assert seen(verified(pod, download=True)[1]).endswith(" Every byte was read back.\n")


def test_a_person_reads_every_flaw_with_its_cure(pod, hub, trained):
    pod.finalize(trained("sft_full"))
    card = hub.read(REPO, "README.md").decode()
    commit(hub, {"config.json": None, "README.md": f"{card}\nMore.\n".encode()})
    text = seen(verified(pod)[1])
    assert re.search(r"config.json +│ refused +│ missing", text)
    assert "→ Bring back what was published" in text
    assert text.index("config.json") < text.index("README.md")
    assert "Proven" not in text
    assert seen(Verification()) == ""


def test_the_command_answers_with_one_object_and_an_exit_code(pod, hub, trained):
    folder = trained("sft_full")
    outcome = pod.finalize(folder)
    process = pod.command(folder, "verify", "--json", "--download", HF_REPO_NAME="")
    assert process.wait(60) == 10
    process.communicate()
    two = [pod.command(folder, "verify", REPO, "--json", "--download") for _ in range(2)]
    for process in two:
        out, err = process.communicate(timeout=60)
        answer = json.loads(out)
        assert process.returncode == 0, err
        assert answer | {"files": [], "downloaded_bytes": 0} == {
            "result": "verified", "repo_id": REPO, "revision": "main", "commit": outcome.commit,
            "model_url": f"{hub.endpoint}/ada/model", "against": "finalize.json", "files": [], "findings": [],
            "downloaded_bytes": 0, "error": None,
        }  # fmt: skip
    hub.tamper.tree_sha256(REPO, "model.safetensors", "0" * 64)
    process = pod.command(folder, "verify", REPO, "--json")
    out, err = process.communicate(timeout=60)
    answer = json.loads(out)
    assert process.returncode == 14, err
    assert answer["result"] == "mismatch"
    [finding] = answer["findings"]
    assert finding.keys() == {"path", "verdict", "found", "cure"}
    assert finding["path"] == "model.safetensors"
    assert TOKEN not in out + err


def test_verifying_changes_nothing_and_warns_of_nothing(pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder)
    head, since = hub.repo(REPO).head(), len(hub.requests)
    with capture_logs() as said:
        verified(pod, against=folder, download=True, AGENT_CHECK_WEIGHTS="full")
    methods = {(r.method, r.path) for r in hub.requests[since:] if r.method != "GET"}
    assert methods == {("POST", "/api/validate-yaml")}
    assert hub.repo(REPO).head() == head
    assert [line for line in said if line["log_level"] == "warning"] == []
    assert not [line for line in said if line["event"].startswith("reading all weights")]
