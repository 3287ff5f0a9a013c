from __future__ import annotations

import pytest

from agent.artifact.names import is_index, is_model_family, is_weights, reason_to_leave_out


@pytest.mark.parametrize(
    "path",
    [
        "training_args.bin",
        "optimizer.pt",
        "optimizer.bin",
        "optimizer_0.pt",
        "scheduler.pt",
        "scaler.pt",
        "rng_state.pth",
        "rng_state_3.pth",
        "zero_to_fp32.py",
        "latest",
        "__0_0.distcp",
        "train.log",
        ".env",
        ".env.production",
        ".gitattributes",
        "checkpoint-2/model.safetensors",
        "checkpoint-2/training_args.bin",
        "global_step4/mp_rank_00_model_states.pt",
        "pytorch_model_fsdp_0/__0_0.distcp",
        "optimizer_0/__0_0.distcp",
        "runs/Jan01/events.out.tfevents.1",
        "wandb/run-1/files/config.yaml",
        ".cache/huggingface/token",
        ".git/config",
        "__pycache__/train.cpython-311.pyc",
        "code/__pycache__/train.pyc",
        "sub/.env",
        "sub/training_args.bin",
        "merged_model/checkpoint-8/model.safetensors",
        "a/b/c/wandb/d/e/f.txt",
    ],
)
def test_training_state_caches_logs_and_hidden_files_are_never_published(path):
    assert reason_to_leave_out(path)


@pytest.mark.parametrize(
    "path",
    [
        "trainer_state.json",
        "all_results.json",
        "train_results.json",
        "eval_results.json",
        "predict_results.json",
    ],
)
def test_records_in_the_root_are_read_not_published(path):
    assert reason_to_leave_out(path) == "record of the training, read for the card and the manifest"


@pytest.mark.parametrize(
    "path",
    [
        "model.safetensors",
        "README.md",
        "config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "special_tokens_map.json",
        "evaluation/eval_results.json",
        "checkpoint.md",
        "checkpoint-2",
        "logs/notes.txt",
        "runs.json",
        "latest.json",
        "modeling_custom.py",
        "results.json",
        "bin/optimizer",
        "Training_Args.bin",
    ],
)
def test_what_belongs_to_a_model_may_be_published(path):
    assert reason_to_leave_out(path) is None


def test_the_reason_names_the_folder_that_is_the_cause():
    assert reason_to_leave_out("a/checkpoint-12/b/model.safetensors") == (
        "checkpoint-12/ is training state, cache or hidden"
    )
    assert reason_to_leave_out("a/train.log") == "training state, log or hidden file"


@pytest.mark.parametrize(
    "path",
    [
        "model.safetensors",
        "model-00001-of-00004.safetensors",
        "adapter_model.safetensors",
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "adapter_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "consolidated.00.pth",
        "model-q4.gguf",
        "onnx/model.onnx",
        "second/model.safetensors",
    ],
)
def test_weights_are_recognised(path):
    assert is_weights(path)


@pytest.mark.parametrize(
    "path",
    [
        "tokenizer.json",
        "model.safetensors.index.json",
        "README.md",
        "config.json",
        "safetensors",
        "model.pt",
    ],
)
def test_other_files_are_no_weights(path):
    assert not is_weights(path)


@pytest.mark.parametrize(
    ("path", "yes"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00004.safetensors", True),
        ("model.safetensors.index.json", True),
        ("pytorch_model.bin", True),
        ("pytorch_model.bin.index.json", True),
        ("adapter_model.safetensors", True),
        ("adapter_config.json", True),
        ("config.json", True),
        ("generation_config.json", True),
        ("model.fp16.safetensors.index.json", True),
        ("README.md", False),
        ("tokenizer.json", False),
        ("finalize.json", False),
        (".gitattributes", False),
        ("onnx/model.onnx", False),
        ("other/model.safetensors", False),
        ("other/config.json", False),
        ("my_config.json", False),
    ],
)
def test_only_a_loaders_files_in_the_root_belong_to_the_model(path, yes):
    assert is_model_family(path) is yes


@pytest.mark.parametrize(
    ("path", "yes"),
    [
        ("model.safetensors.index.json", True),
        ("pytorch_model.bin.index.json", True),
        ("sub/model.safetensors.index.json", True),
        ("index.json", False),
        ("model.safetensors", False),
    ],
)
def test_an_index_is_recognised(path, yes):
    assert is_index(path) is yes
