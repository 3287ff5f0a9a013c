"""training_args.bin is read for what is asked for, and nothing in it ever runs."""

from __future__ import annotations

import enum
import os
import pickle
import struct
import tracemalloc
import zipfile

import pytest

from agent.artifact import read_arguments
from agent.hyperparameters import NAMES, pick


class Scheduler(enum.Enum):
    LINEAR = "linear"


class Arguments:
    pass


class Evil:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder / "ran"),))


def saved(folder, content, member="training_args/data.pkl"):
    with zipfile.ZipFile(folder / "training_args.bin", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, content)
    return folder


def arguments(**values):
    made = Arguments()
    made.__dict__.update(values)
    return pickle.dumps(made, protocol=2)


@pytest.mark.parametrize("name", ["sft_lora", "dpo_lora", "orpo_lora", "sft_full"])
def test_the_arguments_of_a_real_training(real_output, name):
    found = read_arguments(real_output(name), NAMES)
    assert found["learning_rate"] == {"sft_lora": 2e-05, "sft_full": 2e-05}.get(name, 1e-06)
    assert found["lr_scheduler_type"] == "linear"
    assert found["optim"] == "adamw_torch_fused"
    assert ("beta" in found) == (name in {"dpo_lora", "orpo_lora"})


def test_only_what_is_asked_for_is_read(tmp_path):
    content = arguments(hub_token="hf_x", seed=1, nested={"a": 1}, lr=Scheduler.LINEAR, on=True, off=None)
    saved(tmp_path, content)
    assert read_arguments(tmp_path, ["seed", "lr", "on", "off", "nested", "missing"]) == {
        "seed": 1, "lr": "linear", "on": True,
    }  # fmt: skip


def test_nothing_in_it_runs(tmp_path):
    saved(tmp_path, pickle.dumps({"a": Evil(tmp_path)}, protocol=2))
    assert read_arguments(tmp_path, ["a"]) == {}
    saved(tmp_path, arguments(seed=Evil(tmp_path), beta=0.5))
    assert read_arguments(tmp_path, ["beta"]) == {"beta": 0.5}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        arguments(seed=1)[:-5],
        pickle.dumps(5, protocol=2),
        pickle.dumps(Arguments(), protocol=4),
        b"\x80\x02" + b"N" + b"r" + struct.pack("<I", 2**32 - 2) + b".",  # a memo of 4 thousand million
        b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
        b"(" * 100_000 + b".",
        b"\x80\x02cos\nsystem\n(S'true'\ntRtRtR.",
        arguments(seed="x" * 2_000_000),
    ],
)
def test_a_file_that_is_not_understood_has_no_arguments(content, tmp_path):
    assert read_arguments(saved(tmp_path, content), ["seed"]) == {}


def test_a_newer_protocol_is_not_read(tmp_path):
    made = Arguments()
    made.seed = 1
    assert read_arguments(saved(tmp_path, pickle.dumps(made, protocol=2)), ["seed"]) == {"seed": 1}
    assert read_arguments(saved(tmp_path, pickle.dumps(made, protocol=4)), ["seed"]) == {}


def test_the_numbers_in_it_cost_no_memory(tmp_path):
    """Fifty million is the place of a note in the memo; a list that long takes 800 MB."""
    saved(tmp_path, b"\x80\x02}r" + struct.pack("<I", 50_000_000) + b".")
    tracemalloc.start()
    try:
        assert read_arguments(tmp_path, ["seed"]) == {}
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_no_file_a_file_that_is_no_zip_or_two_pickles_have_none(tmp_path):
    assert read_arguments(tmp_path, ["seed"]) == {}
    (tmp_path / "training_args.bin").write_bytes(b"old format")
    assert read_arguments(tmp_path, ["seed"]) == {}
    (tmp_path / "training_args.bin").unlink()
    os.mkfifo(tmp_path / "training_args.bin")
    assert read_arguments(tmp_path, ["seed"]) == {}


def test_hyperparameters_have_one_name_and_come_from_every_group():
    assert pick(
        {
            "training": {
                "num_epochs": 3, "learning_rate": "2e-4", "batch_size": 4, "bf16": True, "fp16": False,
                "quantization": {"load_in_4bit": True}, "output_dir": "/workspace/x", "max_steps": -1,
            },
            "lora": {"r": 8, "alpha": 16, "target_modules": ["q", "v", "/etc/x", 5]},
            "seed": 7,
            "hub_token": "hf_x",
        }
    ) == {
        "num_train_epochs": 3, "learning_rate": "2e-4", "per_device_train_batch_size": 4, "bf16": True,
        "load_in_4bit": True, "r": 8, "lora_alpha": 16, "target_modules": "q, v", "seed": 7,
    }  # fmt: skip


def test_lora_that_was_not_used_is_not_told():
    assert pick({"training": {"use_lora": False, "beta": 0.1}, "lora": {"r": 8}}) == {"beta": 0.1}


@pytest.mark.parametrize(
    "value",
    ["", "/workspace/base", "a b", "<b>", "x" * 41, "a|b", 10**400, float("nan"), None, {}, [], [5], "ä"],
)
def test_what_is_no_short_word_or_ordinary_figure_is_passed_over(value):
    assert pick({"optim": value, "seed": 1}) == {"seed": 1}


def test_a_long_list_is_cut():
    listed = pick({"target_modules": [f"m{n}" for n in range(20)]})["target_modules"]
    assert listed.endswith("m11 and 8 more")
