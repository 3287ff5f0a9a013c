"""Which folder is published, and when that is not guessed."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from agent.artifact import Selection, Wanted, take_stock
from agent.errors import ArtifactError
from agent.patterns import Patterns

BEST = Wanted(checkpoint="best")


@pytest.fixture
def run(real_output, tmp_path):
    """A training's folder without weights in its root: two complete checkpoints are all there is."""

    def make(name="sft_full", steps=None):
        root = shutil.copytree(real_output(name), tmp_path / name)
        for path in root.iterdir():
            if path.is_file():
                path.unlink()
        for before, after in (steps or {}).items():
            (root / f"checkpoint-{before}").rename(root / f"checkpoint-{after}")
        return root

    return make


def change_state(checkpoint, **facts):
    path = checkpoint / "trainer_state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def refusal(root, wanted=BEST):
    with pytest.raises(ArtifactError) as raised:
        take_stock(root, wanted)
    return raised.value.message, raised.value.hint


@pytest.mark.parametrize("name", ["sft_full", "sft_lora", "dpo_lora", "orpo_lora"])
def test_without_weights_in_the_root_the_last_complete_checkpoint_is_published_and_said(run, name):
    root = run(name)
    stock = take_stock(root)
    assert (stock.root, stock.of_run) == (root / "checkpoint-4", True)
    assert "trainer_state.json" not in [file.path for file in stock.files]
    assert [one.sentence for one in stock.remarks] == [
        "checkpoint-4/ is published: the folder itself holds no weights"
    ]


def test_checkpoints_are_counted_not_spelled(run):
    root = run(steps={4: 10})
    change_state(root / "checkpoint-10", global_step=10)
    assert take_stock(root).root == root / "checkpoint-10"


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda last: (last / "trainer_state.json").unlink(), "it has no readable trainer_state.json"),
        (lambda last: cut(last / "trainer_state.json"), "it has no readable trainer_state.json"),
        (lambda last: change_state(last, global_step=3), "its trainer_state.json is of step 3"),
        (lambda last: cut(last / "model.safetensors"), "model.safetensors is cut short"),
        (lambda last: (last / "model.safetensors").unlink(), "it holds no weights"),
        (lambda last: cut(last / "config.json"), "config.json"),
    ],
    ids=[
        "no state",
        "state cut short",
        "state of another step",
        "weights cut short",
        "no weights",
        "config cut short",
    ],
)
def test_a_checkpoint_that_is_not_complete_is_passed_over_and_named(run, spoil, why):
    root = run()
    spoil(root / "checkpoint-4")
    stock = take_stock(root)
    assert stock.root == root / "checkpoint-2"
    assert f"checkpoint-4/ is not complete: {why}" in stock.remarks[0].sentence


def test_of_checkpoints_before_the_last_complete_one_nothing_is_told(run):
    root = run()
    cut(root / "checkpoint-2" / "model.safetensors")
    stock = take_stock(root)
    assert (stock.root, len(stock.remarks)) == (root / "checkpoint-4", 1)


def test_if_no_checkpoint_is_complete_each_is_named_with_its_flaw(run):
    root = run()
    for checkpoint in root.iterdir():
        cut(checkpoint / "model.safetensors")
    message, hint = refusal(root, Wanted())
    assert message.startswith(
        f"No model weights to publish in {root}. checkpoint-4/ is not complete: model.saf"
    )
    assert "checkpoint-2/ is not complete" in message
    assert "Weights were found in checkpoint-2, checkpoint-4" in hint


def test_checkpoints_of_two_runs_are_not_guessed_between(run):
    root = run()
    history = json.loads((root / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    history[-1]["eval_loss"] += 0.5
    change_state(root / "checkpoint-2", log_history=history)
    message, hint = refusal(root, Wanted())
    assert message == (
        f"{root} holds no weights, and its checkpoints are of different runs: checkpoint-4 does not continue "
        "checkpoint-2."
    )
    assert hint == f"Set OUTPUT_DIR to the one to publish, for example {root}/checkpoint-4."


def test_a_merge_that_was_begun_forbids_to_fall_back_to_a_checkpoint(run):
    root = run("sft_lora")
    (root / "merged_model").mkdir()
    (root / "merged_model" / "config.json").write_text("{}")
    message, _ = refusal(root, Wanted())
    assert message == (
        f"No model weights to publish in {root}, and its merged_model/ is not whole: weights are missing."
    )
    wanted = Wanted(Selection(exclude=Patterns("merged_model/")))
    assert take_stock(root, wanted).root == root / "checkpoint-4"


def test_a_merged_model_that_is_not_wanted_is_passed_over(real_output, tmp_path):
    root = shutil.copytree(real_output("sft_lora"), tmp_path / "out")
    shutil.copytree(real_output("base"), root / "merged_model")
    assert take_stock(root).root == root / "merged_model"
    stock = take_stock(root, Wanted(Selection(exclude=Patterns("merged_model/"))))
    assert (stock.root, stock.kind) == (root, "adapter")
    assert not [file for file in stock.files if "merged" in file.path]


def test_weights_in_the_root_come_before_any_checkpoint(real_output):
    assert take_stock(real_output("sft_full")).root == real_output("sft_full")


def test_a_torch_file_of_somebodys_own_counts_only_if_there_is_nothing_else(run):
    root = run()
    (root / "value_head.pt").write_bytes(b"x")
    assert take_stock(root).root == root / "checkpoint-4"
    shutil.rmtree(root / "checkpoint-2")
    shutil.rmtree(root / "checkpoint-4")
    assert take_stock(root).root == root


def test_the_best_checkpoint_is_the_one_the_trainer_names(real_output, tmp_path):
    root = shutil.copytree(real_output("sft_full"), tmp_path / "out")
    change_state(root / "checkpoint-4", best_model_checkpoint="/workspace/elsewhere/checkpoint-2")
    stock = take_stock(root, BEST)
    assert (stock.root, stock.of_run) == (root / "checkpoint-2", True)
    assert [one.sentence for one in stock.remarks] == [
        "checkpoint-2/ is published: the trainer names it as the best"
    ]


def test_the_best_of_the_newest_state_counts(real_output, tmp_path):
    root = shutil.copytree(real_output("sft_lora"), tmp_path / "out")
    change_state(root / "checkpoint-2", best_model_checkpoint="checkpoint-2")
    change_state(root, best_model_checkpoint="checkpoint-4")
    assert take_stock(root, BEST).root == root / "checkpoint-4"


def test_a_best_checkpoint_nobody_named_is_refused_with_the_cure(real_output):
    root = real_output("sft_full")
    message, hint = refusal(root)
    assert (
        message == f"AGENT_CHECKPOINT is best, but no trainer_state.json in {root} names a best checkpoint."
    )
    assert hint == "Train with metric_for_best_model and evaluations, or unset AGENT_CHECKPOINT."


def test_a_best_checkpoint_that_is_not_there_is_refused_with_its_name(run):
    root = run()
    change_state(root / "checkpoint-4", best_model_checkpoint="/workspace/checkpoint-3")
    (root / "checkpoint-3").symlink_to("checkpoint-2")
    message, hint = refusal(root)
    assert message == f"The best checkpoint, {root}/checkpoint-3, cannot be published: it is not there."
    assert "save_total_limit" in hint


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pytorch_model_fsdp_0/__0_0.distcp": "w"}, "accelerate merge-weights"),
        ({"global_step4/mp_rank_00_model_states.pt": "w", "latest": "x"}, "zero_to_fp32.py"),
        (
            {"checkpoint-8/model.safetensors": "w", "checkpoint-16/model.safetensors": "w"},
            "checkpoint-16, checkpoint-8",
        ),
        (
            {".hidden.safetensors": "w"},
            ".hidden.safetensors stays behind: training state, log or hidden file",
        ),
        ({"tokenizer.json": "{}"}, "trainer.save_model()"),
    ],
    ids=["fsdp", "zero-3", "unfinished checkpoints", "hidden", "nothing"],
)
def test_a_folder_without_a_model_says_what_it_holds_instead(folder, files, words):
    message, hint = refusal(folder(files | {"config.json": "{}"}), Wanted())
    assert message.startswith("No model weights to publish in ")
    assert words in hint
