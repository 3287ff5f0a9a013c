"""The law of the only copy: nothing that can end the pod is called while a model is unpublished."""

from __future__ import annotations

import itertools

import pytest

from agent.pod.release import Decision, Situation, decide, permits, weights_left
from agent.pod.storage import Storage

SETTINGS = ("keep", "stop", "terminate")
ACTIONS = {"k": "keep", "s": "stop", "t": "terminate"}

# What keep, stop and terminate become, one letter each. The flags of a result: it is Proven to be on the Hub,
# the training Failed, Weights are left on the pod, Nothing was to be published on purpose.
TABLE = {
    # result  container volume network
    "....":   ("kkk", "kss", "kss"),
    "..W.":   ("kkk", "kss", "kss"),
    "...N":   ("kkk", "kss", "kst"),
    "..WN":   ("kkk", "kss", "kst"),
    ".F..":   ("kst", "kst", "kst"),
    ".F.N":   ("kst", "kst", "kst"),
    ".FW.":   ("kkk", "kss", "kss"),
    ".FWN":   ("kkk", "kss", "kst"),
    "P...":   ("kst", "kst", "kst"),
    "P..N":   ("kst", "kst", "kst"),
    "P.W.":   ("kst", "kst", "kst"),
    "P.WN":   ("kst", "kst", "kst"),
    "PF..":   ("kst", "kst", "kst"),
    "PF.N":   ("kst", "kst", "kst"),
    "PFW.":   ("kst", "kst", "kst"),
    "PFWN":   ("kst", "kst", "kst"),
}  # fmt: skip
CASES = [
    (result, storage, asked, ACTIONS[letters[index]])
    for result, row in TABLE.items()
    for storage, letters in zip(Storage, row, strict=True)
    for index, asked in enumerate(SETTINGS)
]


def situation(result, storage):
    proven, failed, left, nothing = (flag != "." for flag in result)
    return Situation(
        proven=proven, training_failed=failed, weights_left=left, nothing_to_publish=nothing, storage=storage
    )


def test_the_table_holds_every_result():
    every = {"".join(flags) for flags in itertools.product("P.", "F.", "W.", "N.")}
    assert set(TABLE) == every
    assert len(CASES) == 16 * 3 * 3


@pytest.mark.parametrize(("result", "storage", "asked", "expected"), CASES)
def test_what_ends_the_pod_is_only_done_when_no_only_copy_goes_with_it(result, storage, asked, expected):
    now = situation(result, storage)
    decision = decide(asked, now)
    assert decision.action == expected
    assert permits(asked, now) is (expected == asked)
    if expected == asked:
        assert not decision.because
        return
    assert {"keep": "kept, not", "stop": "stopped, not"}[expected] in decision.because
    assert {"stop": "stopped", "terminate": "terminated"}[asked] in decision.because
    assert "only here" in decision.because
    assert decision.because.endswith(
        {"keep": "then stop the pod by hand.", "stop": "then terminate the pod by hand."}[expected]
    )


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize("result", ["....", "..W.", ".FW."])
def test_an_unpublished_model_is_never_told_to_the_alert_api_which_terminates(result, storage):
    assert not permits("terminate", situation(result, storage))


def test_the_reason_names_what_would_be_lost():
    lost = {
        "..W.": "the trained model is not proven to be on the Hub",
        "..WN": "the trained model was not published",
        ".FW.": "there are weights of no training that ended well",
    }
    for result, words in lost.items():
        assert words in decide("terminate", situation(result, Storage.CONTAINER)).because


def test_a_decision_to_do_as_asked_says_nothing():
    assert decide("stop", situation("P...", Storage.CONTAINER)) == Decision("stop", "")


WEIGHTS = [
    "model.safetensors", "pytorch_model.bin", "a.pt", "a.pth", "a.ckpt", "__0_0.distcp", "a.gguf", "a.onnx",
    "flax_model.msgpack", "tf_model.h5", "adapter.npz", "deep/er/MODEL.SAFETENSORS",
    "checkpoint-500/trainer_state.json", "deep/global_step12/latest",
]  # fmt: skip
NO_WEIGHTS = [
    "config.json", "train.log", "model.safetensors.index.json", "checkpoint-notes.txt", "readme.ptx", "bin",
    "npz", "safetensors/readme.md",
]  # fmt: skip


def touch(root, path):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


@pytest.mark.parametrize("path", WEIGHTS)
def test_whatever_may_be_weights_counts(path, tmp_path):
    touch(tmp_path, "config.json")
    touch(tmp_path, path)
    assert weights_left([tmp_path])


def test_a_folder_without_any_holds_none(tmp_path):
    for path in NO_WEIGHTS:
        touch(tmp_path, path)
    assert not weights_left([tmp_path])
    assert not weights_left([])
    assert not weights_left([tmp_path / "missing", tmp_path / "missing.safetensors"])


def test_one_of_several_places_is_enough(tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    touch(full, "a.bin")
    assert weights_left([empty, full])
    assert weights_left([empty, full / "a.bin"])
    assert not weights_left([empty])


def test_a_checkpoint_itself_counts(tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    assert weights_left([folder])


def test_weights_behind_a_link_count(tmp_path):
    touch(tmp_path, "store/a.pt")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    assert not weights_left([outputs])
    (outputs / "latest").symlink_to(tmp_path / "store")
    assert weights_left([outputs])


def test_a_link_named_like_weights_counts_wherever_it_leads(tmp_path):
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "not-mounted-now")
    assert weights_left([tmp_path])


def test_links_that_go_round_end(tmp_path):
    (tmp_path / "up").symlink_to(tmp_path)
    assert not weights_left([tmp_path])


def test_a_folder_that_cannot_be_looked_into_may_hold_weights(tmp_path, monkeypatch):
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    assert weights_left([tmp_path])
    (tmp_path / "ring").unlink()
    assert not weights_left([tmp_path])

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("agent.pod.release.os.scandir", refuse)
    assert weights_left([tmp_path])
