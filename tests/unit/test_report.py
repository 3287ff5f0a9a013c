"""The verdict over a whole folder: what refuses, what is only told, and in which words."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.artifact import Rules, Training, Wanted, check, read_training, refuse_older, take_stock
from agent.artifact.findings import Finding
from agent.artifact.limits import LARGEST_FILE_BYTES, check_limits
from agent.artifact.report import Report
from agent.artifact.walk import Selection
from agent.errors import ArtifactError
from agent.patterns import Patterns
from agent.repo_paths import Placement

FINISHED = Training(ended="finished", because="trainer_state.json says step 4 of 4")


@pytest.fixture
def out(real_output, tmp_path):
    """A copy of a real adapter's folder, to be changed."""
    return Path(shutil.copytree(real_output("sft_lora"), tmp_path / "out"))


def report(root, training=FINISHED, rules=None, wanted=None):
    return check(take_stock(root, wanted or Wanted()), training, rules or Rules())


def kinds(found):
    return sorted({(one.path, one.kind) for one in found})


def test_a_real_output_is_clean_and_its_weights_were_looked_at(real_output):
    found = report(real_output("sft_full"))
    assert found.findings == ()
    assert found.refusal("x") is None
    assert found.looked.tensors_seen == found.looked.tensors_total == 21
    assert found.looked.bytes_read == 105_856


def test_headers_only_reads_no_weights(real_output):
    assert report(real_output("sft_full"), rules=Rules(weights="headers")).looked is None


@pytest.mark.parametrize(
    ("training", "allowed", "refuses", "words"),
    [
        (FINISHED, False, None, None),
        (Training(ended="early-stopping", because="b"), False, None, None),
        (Training(ended="unknown", because="nobody knows"), False, False, "is unknown: nobody knows"),
        (Training(ended="cut-short", because="step 4 of 9"), False, True, "did not finish: step 4 of 9"),
        (Training(ended="cut-short", because="step 4 of 9"), True, False, "did not finish: step 4 of 9"),
        (Training(ended="finished", diverged=("grad_norm",)), False, None, None),
        (Training(ended="finished", diverged=("eval_loss",)), False, False, "the last eval_loss"),
    ],
)
def test_how_the_training_ended_decides_and_is_told(real_output, training, allowed, refuses, words):
    found = report(real_output("base"), training, Rules(allow_partial=allowed)).findings
    assert [one.refuses for one in found] == ([] if refuses is None else [refuses])
    assert all(words in one.message for one in found)


def test_every_reason_is_named_at_once_with_every_cure(out):
    os.truncate(out / "adapter_model.safetensors", 4000)
    (out / "tokenizer_config.json").write_text("{")
    (out / "notes.txt").write_text("token = " + "hf_" + "aB3" * 12)
    refusal = report(out, Training(ended="cut-short", because="step 4 of 9")).refusal(out)
    assert refusal.exit_code == 11
    assert refusal.message.startswith(f"{out} may not be published: ")
    for words in (
        "adapter_model.safetensors is cut short",
        "tokenizer_config.json",
        "notes.txt",
        "did not finish",
    ):
        assert words in refusal.message
    assert "AGENT_ALLOW_PARTIAL" in refusal.hint
    assert "aB3aB3" not in refusal.message + refusal.hint


def test_names_that_collide_are_part_of_the_verdict(out):
    (out / "Adapter_config.json").write_text("{}")
    assert ("adapter_config.json", "case-collision") in kinds(report(out).refusals)


def test_a_damaged_config_of_an_adapter_is_told_once(out):
    (out / "adapter_config.json").write_text("{")
    assert [(one.path, one.kind) for one in report(out).refusals] == [("adapter_config.json", "damaged")]


def test_of_a_damaged_adapter_only_the_damage_is_told(out):
    (out / "adapter_model.safetensors").write_bytes(b"")
    assert [(one.path, one.kind) for one in report(out).refusals] == [
        ("adapter_model.safetensors", "damaged")
    ]


def test_an_empty_file_is_told_once(folder):
    root = folder({"config.json": "{}", "pytorch_model.bin": "", "model.safetensors": "", "empty.onnx": ""})
    assert kinds(report(root).refusals) == [
        (name, "damaged") for name in ("empty.onnx", "model.safetensors", "pytorch_model.bin")
    ]
    assert len(report(root).refusals) == 3


def test_a_long_list_of_reasons_is_cut_with_a_count():
    findings = tuple(Finding(f"f{number}", "damaged", "is damaged", "Save again.") for number in range(9))
    refusal = Report(findings).refusal("out")
    assert refusal.message.endswith("f4 is damaged; and 4 more.")
    assert refusal.hint == "Save again."


def test_a_file_that_grows_while_it_is_checked_is_caught(out, monkeypatch):
    from agent.artifact import report as module

    real = module.check_numbers

    def growing(*args):
        with (out / "adapter_model.safetensors").open("ab") as stream:
            stream.write(b"x")
        return real(*args)

    monkeypatch.setattr(module, "check_numbers", growing)
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors in .* changed while being read"):
        report(out)


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(out, monkeypatch):
    from agent.artifact import report as module

    def failing(*_):
        raise OSError(5, "Input/output error", "tokenizer.json")

    monkeypatch.setattr(module, "scan", failing)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read: Input/output error"):
        report(out)


def test_files_placed_from_elsewhere_are_checked_too(out, tmp_path):
    (tmp_path / "config.txt").write_text(
        "AWS_SECRET_ACCESS_KEY=" + "wJalrXUtnFEMIK7MDENGbPxRfiCYzQ9rT2uV5xYb"
    )
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "model.safetensors").write_bytes(b"damaged")
    placements = (
        Placement(tmp_path / "config.txt", "docs/config.txt"),
        Placement(tmp_path / "second", "second"),
    )
    found = report(out, wanted=Wanted(placements=placements)).refusals
    assert ("second/model.safetensors", "damaged") in kinds(found)
    assert ("docs/config.txt", "secret") in kinds(found)


def test_what_stays_behind_is_not_checked(out):
    (out / "broken.safetensors").write_bytes(b"x")
    assert kinds(report(out).refusals) == [("broken.safetensors", "damaged")]
    wanted = Wanted(Selection(exclude=Patterns("broken.*")))
    assert report(out, wanted=wanted).refusals == []


def test_more_files_than_a_commit_holds_are_refused(out):
    file = take_stock(out).files[0]
    assert list(check_limits([file] * 1)) == []
    many = [type(file)(f"f{number}", file.source, file.stamp) for number in range(25_001)]
    (found,) = check_limits(many)
    assert (found.kind, found.refuses) == ("too-many-files", True)
    assert "25,001 files are more than the 25,000" in found.message
    assert list(check_limits(many[:25_000])) == []


def test_a_file_larger_than_the_hub_takes_is_refused(out):
    with (out / "huge.bin").open("wb") as stream:
        stream.truncate(LARGEST_FILE_BYTES + 1)
    found = [one for one in check_limits(take_stock(out).files) if one.path == "huge.bin"]
    assert [(one.kind, one.refuses) for one in found] == [("too-large", True)]
    os.truncate(out / "huge.bin", LARGEST_FILE_BYTES)
    assert list(check_limits(take_stock(out).files)) == []


@pytest.mark.parametrize(
    ("names", "refuses"),
    [
        (("notes.txt", "Notes.txt"), False),
        (("Config.json", "config.json"), True),
        (("caf\u00e9.txt", "cafe\u0301.txt"), False),
        (("A/x.txt", "a/X.txt"), False),
        (("notes.txt", "notes.text"), None),
    ],
)
def test_names_that_are_one_file_on_other_systems_are_told(folder, names, refuses):
    root = folder({"model.safetensors": "w", **dict.fromkeys(names, "{}")})
    found = list(check_limits(take_stock(root).files))
    assert [one.refuses for one in found] == ([] if refuses is None else [refuses])
    assert all(one.kind == "case-collision" for one in found)


def test_weights_older_than_the_training_are_refused_with_both_times(out, tmp_path):
    began = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    weights = out / "adapter_model.safetensors"

    def written(offset_s):
        then = (began + timedelta(seconds=offset_s)).timestamp()
        os.utime(weights, (then, then))
        refuse_older(take_stock(out), began)

    for offset_s in (3600, 0, -59):
        written(offset_s)
    with pytest.raises(ArtifactError) as raised:
        written(-7200)
    assert raised.value.message == (
        f"adapter_model.safetensors in {out} was written at 2026-01-02 10:00 UTC, before the training began "
        "at 2026-01-02 12:00 UTC: it is not what this training made."
    )
    assert "AGENT_ALLOW_STALE" in raised.value.hint
    (tmp_path / "export.onnx").write_bytes(b"made later")
    placed = Wanted(placements=(Placement(tmp_path / "export.onnx", "model.onnx"),))
    with pytest.raises(ArtifactError):
        refuse_older(take_stock(out, placed), began)
    (out / "second.gguf").write_bytes(b"x")
    refuse_older(take_stock(out), began)


def test_the_run_of_a_best_checkpoint_tells_its_end(out):
    state = json.loads((out / "trainer_state.json").read_text())
    state["best_model_checkpoint"] = "checkpoint-2"
    (out / "trainer_state.json").write_text(json.dumps(state))
    stock = take_stock(out, Wanted(checkpoint="best"))
    training = read_training(stock.root, None, beside=out, weights_ns=stock.weights_ns, whole_run=True)
    assert (training.ended, training.steps) == ("finished", 2)
