"""Which folder is worth being sent ahead, for every kind of training that writes into one."""

from __future__ import annotations

import json
import os

import pytest

from agent.artifact import states
from agent.config import load
from agent.warm.candidates import Candidate, candidates

BEGUN_NS = 1_700_000_000 * 10**9
OLD, NEW = BEGUN_NS - 10**9, BEGUN_NS + 10**9
BEST, ON_FAILURE = {"AGENT_CHECKPOINT": "best"}, {"AGENT_PUBLISH_ON_FAILURE": "checkpoint"}


def saved(step, *, of=100, every=10, best=None, when=NEW, **more):
    """A complete checkpoint: its weights, and the state that its trainer writes last."""
    document = {"global_step": step, "max_steps": of, "save_steps": every, **more}
    if best:
        document["best_model_checkpoint"] = f"/on/another/machine/checkpoint-{best}"
    files = {"model.safetensors": when, "optimizer.pt": when, "trainer_state.json": (document, when)}
    return {f"checkpoint-{step}/{name}": told for name, told in files.items()}


def half(step):
    """A checkpoint that is being written: its state comes last."""
    return {f"checkpoint-{step}/model.safetensors": NEW}


def damaged(step):
    return {f"checkpoint-{step}/model.safetensors": NEW, f"checkpoint-{step}/trainer_state.json": ("{", NEW)}


def make(root, files):
    for path, told in files.items():
        content, when = told if isinstance(told, tuple) else ("bytes", told)
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content if isinstance(content, str) else json.dumps(content))
        os.utime(target, ns=(when, when))
    return root


def found(root, settings):
    """The folders, newest first, with spaces between them."""
    named = []
    for one in candidates(load({"OUTPUT_DIR": str(root), **settings}), BEGUN_NS):
        assert one.is_checkpoint == (one.folder != root)
        named.append(str(one.folder.relative_to(root)))
    return " ".join(named)


FINAL, MERGED = {"model.safetensors": NEW}, {"merged_model/model.safetensors": NEW}

TABLE = {
    "nothing was saved yet": ({"config.json": NEW}, {}, ""),
    "only what is no weights": ({"tokenizer.json": NEW, "training_args.bin": NEW}, {}, ""),
    # the model itself
    "the final model": (FINAL, {}, "."),
    "the final model beside checkpoints": ({**saved(90), **saved(100), **FINAL}, {}, ". checkpoint-100"),
    "a merged model": (MERGED, {}, "."),
    "an adapter": ({"adapter_model.safetensors": NEW}, {}, "."),
    "a model for llama.cpp": ({"model.gguf": NEW}, {}, "."),
    "a final model from before the training": ({"model.safetensors": OLD}, {}, ""),
    "one from before, and a checkpoint": ({"model.safetensors": OLD, **saved(100)}, {}, "checkpoint-100"),
    "one from before, and its new merge": ({"model.safetensors": OLD, **MERGED}, {}, "."),
    "a final model, not wanted": ({**FINAL, **saved(100, best=50), **saved(50)}, BEST, "checkpoint-50"),
    # checkpoints that a trainer goes on from
    "the first of many": (saved(10), {}, ""),
    "one in the middle": ({**saved(40), **saved(50)}, {}, ""),
    "the one before the last": ({**saved(80), **saved(90)}, {}, ""),
    "the last one": ({**saved(90), **saved(100)}, {}, "checkpoint-100"),
    "the last one, after which no more is saved": ({**saved(90, of=95)}, {}, "checkpoint-90"),
    "the last one is the highest by number, not by name": ({**saved(9), **saved(100)}, {}, "checkpoint-100"),
    "one after the last step": (saved(110), {}, "checkpoint-110"),
    "steps without an end": (saved(50, of=-1), {}, "checkpoint-50"),
    "a trainer that does not tell its interval": (saved(50, every=None), {}, "checkpoint-50"),
    "an interval that is no number of steps": (saved(50, every=True), {}, "checkpoint-50"),
    "an interval of a share of the steps": (saved(50, every=0.1), {}, "checkpoint-50"),
    "an interval that is a word": (saved(50, every="10"), {}, "checkpoint-50"),
    "an interval of nothing": (saved(50, every=0), {}, "checkpoint-50"),
    "an interval below nothing": (saved(50, every=-1), {}, "checkpoint-50"),
    "a state without steps": (saved(50, global_step=None), {}, "checkpoint-50"),
    "an older one that may have been the last": ({**saved(40, every=None), **saved(50)}, {}, ""),
    # checkpoints that are none
    "one that is being written": (half(100), {}, ""),
    "one that is being written after a whole one": ({**saved(95, of=100), **half(100)}, {}, "checkpoint-95"),
    "one whose state is damaged": (damaged(100), {}, ""),
    "one whose state is damaged after a whole one": ({**saved(95), **damaged(100)}, {}, "checkpoint-95"),
    "one of an earlier training": (saved(100, when=OLD), {}, ""),
    "an old one after a new one": ({**saved(100), **saved(200, when=OLD)}, {}, "checkpoint-100"),
    "a folder that is called nearly so": ({"checkpoint-best/trainer_state.json": ({}, NEW)}, {}, ""),
    # the training may die at any step, and its last checkpoint is wanted
    "any of many, on failure": (saved(10), ON_FAILURE, "checkpoint-10"),
    "the newest of many, on failure": ({**saved(10), **saved(20)}, ON_FAILURE, "checkpoint-20"),
    "and the best": ({**saved(1), **saved(2, best=1)}, ON_FAILURE, "checkpoint-2 checkpoint-1"),
    "the newest is the best one, on failure": ({**saved(1), **saved(2, best=2)}, ON_FAILURE, "checkpoint-2"),
    "the newest is not the one wanted": ({**saved(1), **saved(2, best=1)}, BEST | ON_FAILURE, "checkpoint-1"),
    "the newest is the one wanted": ({**saved(1), **saved(2, best=2)}, BEST | ON_FAILURE, "checkpoint-2"),
    "all there may be": ({**FINAL, **saved(3), **saved(100, best=3)}, {}, ". checkpoint-100 checkpoint-3"),
    # the best one may be loaded in the end
    "an earlier one is the best": ({**saved(30), **saved(50, best=30)}, {}, "checkpoint-30"),
    "the newest is the best so far": ({**saved(30), **saved(50, best=50)}, {}, ""),
    "the last is the best": ({**saved(90), **saved(100, best=100)}, {}, "checkpoint-100"),
    "the last is not the best": ({**saved(30), **saved(100, best=30)}, {}, "checkpoint-100 checkpoint-30"),
    "the best is gone": (saved(50, best=30), {}, ""),
    "the best of many, wanted": ({**saved(30), **saved(50, best=30)}, BEST, "checkpoint-30"),
    "the newest is the best so far, wanted": ({**saved(30), **saved(50, best=50)}, BEST, ""),
    "the best and last one, wanted": ({**saved(30), **saved(100, best=100)}, BEST, "checkpoint-100"),
    "the best is gone, and wanted": (saved(100, best=30), BEST, ""),
    "no best is known, and wanted": (saved(100), BEST, ""),
    "the final model is not the best, which is wanted": ({**FINAL, **saved(100)}, BEST, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_what_would_be_published_if_nothing_more_were_saved(case, tmp_path):
    files, settings, wanted = TABLE[case]
    assert found(make(tmp_path, files), settings) == wanted


def test_the_moment_at_which_the_training_began_belongs_to_it(tmp_path):
    assert found(make(tmp_path / "a", {"model.safetensors": BEGUN_NS}), {}) == "."
    assert found(make(tmp_path / "b", saved(100, when=BEGUN_NS)), {}) == "checkpoint-100"


def test_a_state_is_read_again_when_it_was_written_again_and_not_before(tmp_path, monkeypatch):
    """It may have many megabytes, and is asked for every second."""
    read, read_state = [], states.read_state

    def counted(path, *args, **more):
        read.append(path)
        return read_state(path, *args, **more)

    monkeypatch.setattr(states, "read_state", counted)
    make(tmp_path, damaged(100))
    assert [found(tmp_path, {}) for _ in range(5)] == [""] * 5
    assert len(read) == 1
    make(tmp_path, saved(100))
    assert [found(tmp_path, {}) for _ in range(5)] == ["checkpoint-100"] * 5
    assert len(read) == 2


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert found(tmp_path / "none", {}) == ""


def test_a_file_where_a_folder_should_be_holds_nothing(tmp_path):
    (tmp_path / "out").touch()
    assert found(tmp_path / "out", {}) == ""


def test_a_link_to_weights_counts_by_what_it_leads_to(tmp_path):
    root = make(tmp_path, saved(50))
    (root / "model.safetensors").symlink_to(root / "checkpoint-50" / "model.safetensors")
    assert found(root, {}) == "."


def test_a_broken_link_is_no_weights(tmp_path):
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path, {}) == ""


def test_a_checkpoint_is_told_from_the_folder_itself(tmp_path):
    root = make(tmp_path, saved(100))
    config = load({"OUTPUT_DIR": str(root)})
    last = Candidate(root / "checkpoint-100", is_checkpoint=True)
    assert candidates(config, BEGUN_NS) == [last]
    make(root, FINAL)
    assert candidates(config, BEGUN_NS) == [Candidate(root, is_checkpoint=False), last]
