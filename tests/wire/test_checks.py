"""What must not be published is not: with the real clients, against the embedded Hub and a real database."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from agent import artifact
from agent.artifact import numbers
from agent.errors import ArtifactError, VerifyMismatchError
from agent.sandbox.hub import Fault
from tests.conftest import FIXTURES, TOKEN, retrain
from tests.wire.test_job_row import assert_true, told

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
OTHER = "0b0b0b0b-1111-4a3b-9c5e-0123456789ab"
PLANTED = b"hf_THISISASECRETTOKENabcdefgh12345q"  # by hub_token=, in each training_args.bin
RUNS = sorted(path.name for path in FIXTURES.iterdir())


def commits(hub):
    return hub.repo("ada/model").commits("main")[:-1] if "ada/model" in hub.repos else []


def refused(pod, folder, **environ):
    with pytest.raises(ArtifactError) as raised:
        pod.finalize(folder, JOB_ID=JOB, **environ)
    return raised.value.message


def change(path, **facts):
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize("name", RUNS)
def test_real_outputs_are_published_without_any_false_alarm(name, pod, hub, trained):
    outcome = pod.finalize(trained(name), JOB_ID=JOB)
    assert (outcome.result, outcome.published) == ("completed", True)
    assert [one for one in outcome.warnings if "whether the training finished is unknown" not in one] == []


@pytest.mark.parametrize("name", [name for name in RUNS if name not in {"base", "sharded"}])
def test_the_token_that_a_script_was_given_never_reaches_the_hub(name, pod, hub, trained, tmp_path):
    folder = trained(name)
    with zipfile.ZipFile(folder / "training_args.bin") as archive:
        assert any(PLANTED in archive.read(member) for member in archive.namelist())
    pod.finalize(folder, JOB_ID=JOB)
    assert not [path for path in commits(hub)[0].tree if "training_args" in path]
    stored = [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]
    assert not [path for path in stored if PLANTED in path.read_bytes()]
    assert not [path for path in commits(hub)[0].tree if PLANTED in hub.read("ada/model", path)]


def test_asking_for_the_file_with_the_token_blocks_before_the_hub_is_asked(pod, hub, trained):
    process = pod.command(
        trained("sft_lora"), AGENT_INCLUDE="training_args.bin", AGENT_ALLOW_PICKLE="true", JOB_ID=JOB
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 11, err
    error = json.loads(out)["error"]
    assert error["code"] == "artifact"
    assert "training_args.bin" in error["message"]
    assert "Hugging Face" in error["message"]
    assert PLANTED.decode() not in out + err
    assert hub.requests == []
    assert PLANTED.decode() not in json.dumps(pod.row(JOB))
    assert pod.row(JOB)["status"] == "failed"


def test_a_pickle_that_runs_code_is_published_only_when_that_is_allowed(pod, hub, trained):
    folder = trained("sft_lora")
    shutil.copy(FIXTURES / "sft_lora" / "checkpoint-4" / "rng_state.pth", folder / "state.pkl")
    with zipfile.ZipFile(folder / "extra.pt", "w") as archive:
        archive.writestr("extra/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    assert "extra.pt" in refused(pod, folder)
    assert hub.requests == []
    outcome = pod.finalize(folder, JOB_ID=JOB, AGENT_ALLOW_PICKLE="true")
    assert "extra.pt" in commits(hub)[0].tree
    assert any("extra.pt" in warning for warning in outcome.warnings)


def test_every_secret_of_this_process_is_known_whatever_it_looks_like(pod, hub, trained):
    folder = trained("sft_lora")
    (folder / "notes.md").write_text("the pod was started with plain words 4711, see the wiki")
    message = refused(pod, folder, MY_SERVICE_TOKEN="plain words 4711")
    assert "notes.md" in message
    assert "4711" not in message
    assert hub.requests == []


def test_a_damaged_shard_is_named_before_a_byte_is_sent(pod, hub, trained):
    folder = trained("sharded")
    os.truncate(folder / "model-00003-of-00004.safetensors", 20_000)
    assert "model-00003-of-00004.safetensors is cut short" in refused(pod, folder)
    assert hub.requests == []
    row = pod.row(JOB)
    assert (row["status"], row["failure_stage"]) == ("failed", "publish")
    assert "model-00003-of-00004.safetensors" in row["error_message"]


def test_a_model_full_of_nan_is_refused_and_headers_alone_let_it_pass(pod, hub, trained):
    folder = trained("sft_full")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-4096:] = b"\xff" * 4096
    (folder / "model.safetensors").write_bytes(weights)
    assert "NaN" in refused(pod, folder)
    assert hub.requests == []
    assert pod.finalize(folder, JOB_ID=JOB, AGENT_CHECK_WEIGHTS="headers").published


def test_a_training_that_was_cut_short_is_published_only_when_that_is_allowed(pod, hub, trained):
    folder = trained("sft_lora")
    change(folder / "trainer_state.json", max_steps=100)
    assert "did not finish: trainer_state.json says step 4 of 100" in refused(pod, folder)
    assert hub.requests == []
    outcome = pod.finalize(folder, JOB_ID=JOB, AGENT_ALLOW_PARTIAL="true")
    assert outcome.published
    assert any("did not finish" in warning for warning in outcome.warnings)


@pytest.fixture
def sampled(monkeypatch):
    """A sample sees the first kilobytes of these small weights only."""
    monkeypatch.setattr(numbers, "_SAMPLE_BYTES", 4096)
    monkeypatch.setattr(numbers, "_PLACES", 1)


def with_nan_at_its_end(folder):
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"\x00\x00\xc0\x7f")
    return folder


def test_all_weights_are_read_while_they_travel_and_before_the_commit(
    pod, hub, trained, sampled, monkeypatch
):
    folder, sent = with_nan_at_its_end(trained("sft_full")), []
    read = artifact.check_weights

    def read_once_they_travel(stock):
        over = time.monotonic() + 60
        while not any("/xorbs/" in request.path for request in hub.requests):
            assert time.monotonic() < over, "the check came first"
            time.sleep(0.005)
        sent.append(True)
        return read(stock)

    monkeypatch.setattr(artifact, "check_weights", read_once_they_travel)
    with pytest.raises(ArtifactError, match="weights that are no numbers"):
        pod.finalize(folder, JOB_ID=JOB, AGENT_CHECK_WEIGHTS="full")
    assert sent == [True]
    assert commits(hub) == []
    assert pod.row(JOB)["status"] == "failed"
    assert pod.finalize(folder, JOB_ID=JOB).published, "a sample sees nothing"


def test_nobody_reads_all_weights_of_a_model_that_is_there(pod, hub, trained, monkeypatch):
    folder = trained("sft_full")
    assert pod.finalize(folder, JOB_ID=JOB, AGENT_CHECK_WEIGHTS="full").published
    monkeypatch.setattr(artifact, "check_weights", None)
    assert pod.finalize(folder, JOB_ID=JOB, AGENT_CHECK_WEIGHTS="full").published


def test_where_nothing_travels_all_weights_are_read_at_once(pod, trained, sampled):
    folder = with_nan_at_its_end(trained("sft_full"))
    with pytest.raises(ArtifactError, match="weights that are no numbers"):
        pod.finalize(folder, JOB_ID=JOB, AGENT_CHECK_WEIGHTS="full", HF_TOKEN="")


def test_a_loss_that_became_nan_is_reported_and_holds_no_condition(pod, hub, trained):
    folder = trained("sft_lora")
    state = json.loads((folder / "trainer_state.json").read_text())
    state["log_history"].append({"loss": float("nan"), "step": 4})
    (folder / "trainer_state.json").write_text(json.dumps(state))
    outcome = pod.finalize(folder, JOB_ID=JOB, AGENT_PUBLISH_IF="loss<=100")
    assert (outcome.result, outcome.note) == ("not-published", "loss<=100 does not hold: nan")
    assert "the last loss that was logged is not a number: the training diverged" in outcome.warnings
    assert pod.finalize(folder, JOB_ID=OTHER).published


def test_the_last_complete_checkpoint_is_published_when_the_root_holds_no_weights(pod, hub, trained):
    folder = trained("sft_lora")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "trainer_state.json").unlink()
    outcome = pod.finalize(folder, JOB_ID=JOB)
    assert "checkpoint-4/ is published: the folder itself holds no weights" in outcome.warnings
    read = hub.read("ada/model", "adapter_model.safetensors")
    assert read == (folder / "checkpoint-4" / "adapter_model.safetensors").read_bytes()
    assert not {"optimizer.pt", "trainer_state.json", "training_args.bin"} & commits(hub)[0].tree.keys()


def test_the_best_checkpoint_is_published_when_it_is_wanted(pod, hub, trained):
    folder = trained("sft_full")
    change(folder / "checkpoint-4" / "trainer_state.json", best_model_checkpoint="/pod/out/checkpoint-2")
    pod.finalize(folder, JOB_ID=JOB, AGENT_CHECKPOINT="best")
    read = hub.read("ada/model", "model.safetensors")
    assert read == (folder / "checkpoint-2" / "model.safetensors").read_bytes()
    assert json.loads(hub.read("ada/model", "finalize.json"))["steps"] == 2


def test_further_files_are_published_where_they_are_wanted(pod, hub, trained, tmp_path):
    export = tmp_path / "export"
    (export / "runs").mkdir(parents=True)
    (export / "model.onnx").write_bytes(b"an export")
    (export / "runs" / "events").write_bytes(b"left behind")
    (tmp_path / "LICENSE").write_text("MIT")
    outcome = pod.finalize(
        trained("sft_lora"),
        JOB_ID=JOB,
        AGENT_FILES=f"{export}:onnx,{tmp_path}/LICENSE:./,{tmp_path}/LICENSE:docs/terms.txt",
        AGENT_EXPECT="onnx/model.onnx,README.md,finalize.json,LICENSE",
    )
    tree = commits(hub)[0].tree
    assert {"onnx/model.onnx", "LICENSE", "docs/terms.txt"} < tree.keys()
    assert "onnx/runs/events" not in tree
    assert hub.read("ada/model", "onnx/model.onnx") == b"an export"
    assert outcome.files == len(tree) - 1  # .gitattributes is the Hub's own
    again = pod.finalize(
        tmp_path / "outputs" / "sft_lora",
        JOB_ID=JOB,
        AGENT_FILES=f"{export}:onnx,{tmp_path}/LICENSE:./,{tmp_path}/LICENSE:docs/terms.txt",
    )
    assert (len(commits(hub)), again.uploaded_bytes) == (1, 0)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("nowhere:x", "nowhere, a source in AGENT_FILES, cannot be read"),
        ("a.txt:adapter_config.json", "would both stand at adapter_config.json"),
        ("a.txt:x,a.txt:x", "would both stand at x"),
        ("a.txt:x,a.txt:x/y", "x would be a file and the folder of x/y"),
        ("a.txt:README.md/x", "README.md would be a file and the folder of README.md/x"),
        (".env:settings.txt", "is no file that may be published"),
        ("linked:settings.txt", "is no file that may be published"),
        ("a.txt:conf/.env", "is no file that may be published"),
        ("pipe:x", "is no file that may be published"),
    ],
)
def test_further_files_that_cannot_be_placed_are_refused_with_their_names(
    files, words, pod, hub, trained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".env").write_text("A=b")
    (tmp_path / "linked").symlink_to(".env")
    os.mkfifo(tmp_path / "pipe")
    assert words in refused(pod, trained("sft_lora"), AGENT_FILES=files)
    assert hub.requests == []


def test_what_is_expected_and_would_be_missing_is_refused_before_anything_exists(pod, hub, trained):
    message = refused(pod, trained("sft_lora"), AGENT_EXPECT="README.md,onnx/model.onnx,b.txt")
    assert message == "b.txt, onnx/model.onnx is in AGENT_EXPECT and would not be in ada/model."
    assert not hub.repos


def test_what_the_repo_holds_already_counts_as_expected_unless_it_is_replaced(pod, hub, trained):
    pod.finalize(trained("base"), JOB_ID=OTHER)
    hub.commit("ada/model", {"notes.md": b"mine", "old.gguf": b"x"})
    folder = trained("sft_lora")
    assert "old.gguf is in AGENT_EXPECT" in refused(pod, folder, AGENT_EXPECT="notes.md,old.gguf")
    assert pod.finalize(folder, JOB_ID=JOB, AGENT_EXPECT="notes.md").published


def test_what_is_expected_is_looked_for_in_the_commit(pod, hub, trained):
    folder = trained("sft_lora")
    pod.finalize(folder, JOB_ID=JOB)
    with pytest.raises(VerifyMismatchError, match=r"b\.txt is in AGENT_EXPECT and not in .*ada/model at"):
        pod.finalize(folder, JOB_ID=JOB, AGENT_EXPECT="b.txt,README.md")


@pytest.mark.parametrize("shape", ["app", "legacy_app"])
def test_weights_from_before_the_training_are_not_its_result(shape, pod, hub, trained, request):
    app = request.getfixturevalue(shape)
    began = datetime.now(UTC) - timedelta(hours=1)
    job, folder = app.add_job(started_at=began), trained("sft_full")
    old = (began - timedelta(hours=1)).timestamp()
    os.utime(folder / "model.safetensors", (old, old))
    code, answer = told(pod, folder, **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert code == 11
    assert "it is not what this training made" in answer["error"]["message"]
    assert {request.method for request in hub.requests} <= {"GET"}
    code, answer = told(pod, folder, AGENT_ALLOW_STALE="true", **app.environ(job))
    assert_true(app, job, hub, code, answer)
    assert (code, answer["published"]) == (0, True)


@pytest.mark.parametrize("seconds", [-30, 0, 3600])
def test_weights_since_the_training_began_are_its_result_however_clocks_differ(
    seconds, app, pod, hub, trained
):
    began = datetime.now(UTC) - timedelta(hours=2)
    job, folder = app.add_job(started_at=began), trained("sft_full")
    then = (began + timedelta(seconds=seconds)).timestamp()
    os.utime(folder / "model.safetensors", (then, then))
    assert told(pod, folder, **app.environ(job))[0] == 0


@pytest.mark.parametrize("shape", ["app", "legacy_app"])
def test_a_row_that_nobody_started_never_makes_the_model_too_old(shape, pod, hub, trained, request):
    """The first run starts the row and dies; the second finds a started_at that is later than the weights?"""
    app = request.getfixturevalue(shape)
    job, folder = app.add_job(status="pending"), trained("sft_full")
    long_ago = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    os.utime(folder / "model.safetensors", (long_ago, long_ago))
    hub.faults.add(Fault("status", status=503))
    environ = {**app.environ(job), "AGENT_STALL_S": "60"}
    assert told(pod, folder, **environ)[0] == 75
    assert app.row(job.id)["started_at"] is not None
    hub.faults.clear()
    shutil.rmtree(pod.state_dir)
    assert told(pod, folder, **environ)[0] == 0


def test_the_model_of_another_job_is_not_published_again_under_this_one(pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder, JOB_ID=OTHER)
    since = len(hub.requests)
    assert f"already holds exactly this model, published by job {OTHER}" in refused(pod, folder)
    assert not [one for one in hub.requests[since:] if one.method == "POST" and "commit" in one.path]
    assert len(commits(hub)) == 1
    assert pod.finalize(folder, JOB_ID=OTHER).published, "its own job finds it published"
    assert pod.finalize(folder, JOB_ID=JOB, AGENT_ALLOW_STALE="true").published
    assert len(commits(hub)) == 2


def test_a_copy_of_another_jobs_model_is_recognised_by_its_content(pod, hub, trained):
    """Its times are new, so nobody suspects it before the upload: it is seen before the commit."""
    pod.finalize(trained("sft_full"), JOB_ID=OTHER)
    later = datetime.now(UTC).timestamp() + 3600
    folder = trained("sft_full", "copy")
    for path in folder.iterdir():
        os.utime(path, (later, later))
    assert "already holds exactly this model" in refused(pod, folder)
    assert len(commits(hub)) == 1


def test_a_retrained_model_of_another_job_is_published(pod, hub, trained):
    pod.finalize(trained("sft_full"), JOB_ID=OTHER)
    folder = trained("sft_full", "again")
    retrain(folder, random.Random(7))
    assert pod.finalize(folder, JOB_ID=JOB).published


def test_a_model_published_by_nobody_may_be_claimed_by_a_job(pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder)
    assert pod.finalize(folder, JOB_ID=JOB).published


def test_somebody_without_a_job_may_publish_the_model_of_one(pod, hub, trained):
    folder = trained("sft_full")
    pod.finalize(folder, JOB_ID=OTHER)
    assert pod.finalize(folder).published


def test_check_says_without_an_account_what_finalize_would_refuse(pod, hub, trained):
    folder = trained("sft_lora")
    shutil.copy(folder / "training_args.bin", folder / "notes.bin")
    args = ("check", str(folder), "--json")
    process = pod.command(folder, *args, HF_TOKEN="", HF_REPO_NAME="")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 11, err
    found = json.loads(out)
    assert (found["publishable"], found["kind"], found["error"]["code"]) == (False, "adapter", "artifact")
    assert {(one["path"], one["kind"]) for one in found["findings"] if one["refuses"]} == {
        ("notes.bin", "secret"),
        ("notes.bin", "unsafe-pickle"),
    }
    (folder / "notes.bin").unlink()
    process = pod.command(folder, *args, HF_TOKEN="", HF_REPO_NAME="")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["publishable"] is True
    for expected, code in (("README.md,finalize.json,tokenizer.json", 0), ("README.md,onnx/model.onnx", 11)):
        process = pod.command(folder, *args, AGENT_EXPECT=expected)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
    assert "onnx/model.onnx is in AGENT_EXPECT" in json.loads(out)["error"]["message"]
    assert hub.requests == []
    assert TOKEN not in out + err
