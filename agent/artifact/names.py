"""What a file in an output folder is, told by its name alone.

Source: the folders that transformers, TRL, PEFT, DeepSpeed and FSDP leave behind.
"""

from __future__ import annotations

import fnmatch
from pathlib import PurePosixPath

# Folders of training state, caches and logs: nothing below them is ever published.
_NEVER_FOLDERS = (
    "checkpoint-*", "global_step*", "pytorch_model_fsdp_*", "optimizer_*", "runs", "wandb", "__pycache__",
    ".*",
)  # fmt: skip
# training_args.bin pickles `hub_token` in clear when it was passed as an argument.
_NEVER_FILES = (
    "training_args.bin", "optimizer*.pt", "optimizer*.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth",
    "zero_to_fp32.py", "latest", "*.distcp", "*.log", ".*",
)  # fmt: skip
# Read for the method and the metrics; nobody needs them to load the model.
_RECORDS = ("trainer_state.json", "*_results.json")

_WEIGHTS = (
    "*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "model*.bin", "tf_model*.h5",
    "flax_model*.msgpack", "consolidated*.pth", "*.gguf", "*.onnx",
)  # fmt: skip
_INDEXES = ("*.safetensors.index.json", "*.bin.index.json")
_MODEL_CONFIGS = ("config.json", "generation_config.json", "adapter_config.json")


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def reason_to_leave_out(path: str) -> str | None:
    """Say why a file must not be published, or None if it may.

    Args:
        path: relative to the output folder, with `/`.
    """
    *folders, name = PurePosixPath(path).parts
    for folder in folders:
        if _is(folder, _NEVER_FOLDERS):
            return f"{folder}/ is training state, cache or hidden"
    if _is(name, _NEVER_FILES):
        return "training state, log or hidden file"
    if not folders and _is(name, _RECORDS):
        return "record of the training, read for the card and the manifest"
    return None


def is_weights(path: str) -> bool:
    """Whether the file holds parameters of a model."""
    return _is(PurePosixPath(path).name, _WEIGHTS) and reason_to_leave_out(path) is None


def is_model_family(path: str) -> bool:
    """Whether a loader would pick this file up from a repo's root as part of *the* model.

    Such a file of an earlier model must not stay beside a new one: transformers reads
    model.safetensors before it looks for an index.
    """
    return "/" not in path and (_is(path, _WEIGHTS) or _is(path, _INDEXES) or _is(path, _MODEL_CONFIGS))


def is_index(path: str) -> bool:
    """Whether the file maps tensors to shards."""
    return _is(PurePosixPath(path).name, _INDEXES)
