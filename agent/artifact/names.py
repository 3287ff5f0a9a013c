"""What a file in an output folder is, told by its name alone.

Source: the folders that transformers, TRL, PEFT, DeepSpeed and FSDP leave behind.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# Folders of training state, caches and logs: nothing below them is ever published.
_NEVER_FOLDERS = (
    "checkpoint-*", "global_step*", "pytorch_model_fsdp_*", "optimizer_*", "runs", "wandb", "__pycache__",
    ".*",
)  # fmt: skip
# training_args.bin pickles `hub_token` in clear when it was passed as an argument.
_NEVER_FILES = (
    "training_args.bin", "optimizer*.pt", "optimizer*.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth",
    "zero_to_fp32.py", "latest", "*.distcp", "*.log", "events.out.tfevents*", "running_log.txt",
    "trainer_log.jsonl", "training_args.yaml", ".*",
)  # fmt: skip
# Made to hold credentials: no pattern of the user's lets these pass.
_CREDENTIALS = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".git-credentials", ".npmrc", ".pypirc",
    ".pgpass", ".htpasswd", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
)  # fmt: skip
# Read for the method and the metrics; nobody needs them to load the model.
_RECORDS = ("trainer_state.json", "*_results.json")

_WEIGHTS = (
    "*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "model*.bin", "tf_model*.h5",
    "flax_model*.msgpack", "consolidated*.pth", "*.gguf", "*.onnx",
)  # fmt: skip
# Somebody's own torch.save: weights, but never deleted from a repo for their name alone.
_PLAIN_WEIGHTS = ("*.pt", "*.pth", "*.ckpt")
_INDEXES = ("*.safetensors.index.json", "*.bin.index.json")
_MODEL_CONFIGS = ("config.json", "generation_config.json", "adapter_config.json")


_FULL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "model*.bin", "consolidated*")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
_DIFFUSERS = {"model_index.json", "pytorch_lora_weights.safetensors"}


@lru_cache
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return _pattern(patterns).match(name) is not None


def _name(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def reason_to_leave_out(path: str) -> str | None:
    """Say why a file must not be published, or None if it may.

    Args:
        path: relative to the output folder, with `/`.
    """
    folder, _, name = path.rpartition("/")
    if folder and (state := _state_folder(folder)):
        return f"{state}/ is training state, cache or hidden"
    if _is(name, _NEVER_FILES):
        return "training state, log or hidden file"
    if not folder and _is(name, _RECORDS):
        return "record of the training, read for the card and the manifest"
    return None


@lru_cache
def _state_folder(path: str) -> str | None:
    return next((folder for folder in path.split("/") if _is(folder, _NEVER_FOLDERS)), None)


def holds_credentials(path: str) -> bool:
    """Whether a file of this name is made to hold credentials."""
    return _is(_name(path), _CREDENTIALS)


def is_weights(path: str) -> bool:
    """Whether the file holds parameters of a model in a format that names itself."""
    return _is(_name(path), _WEIGHTS)


def is_plain_weights(path: str) -> bool:
    """Whether the file looks like somebody's own torch.save: it may be a model."""
    return _is(_name(path), _PLAIN_WEIGHTS)


def is_model_family(path: str) -> bool:
    """Whether a loader would pick this file up from a repo's root as part of *the* model.

    Such a file of an earlier model must not stay beside a new one: transformers reads
    model.safetensors before it looks for an index.
    """
    return "/" not in path and (_is(path, _WEIGHTS) or _is(path, _INDEXES) or _is(path, _MODEL_CONFIGS))


def is_index(path: str) -> bool:
    """Whether the file maps tensors to shards."""
    return _is(_name(path), _INDEXES)


def is_loaded(path: str) -> bool:
    """Whether a loader reads this file, in whatever folder it is."""
    return is_weights(path) or is_index(path) or _is(_name(path), (*_MODEL_CONFIGS, "tokenizer*"))


def is_adapter_file(path: str) -> bool:
    """Whether the file makes its folder an adapter's, as PEFT saves one."""
    return _name(path) in {*ADAPTER_WEIGHTS, ADAPTER_CONFIG}


def kind_of(paths: Collection[str]) -> str:
    """Name what these files are together, from what a loader would find first.

    `diffusers`, `merged` (an adapter and a full model side by side), `adapter`, `sharded`, `full`,
    `adapters` (named ones, each in a folder), `gguf`, `onnx` or `pytorch`.
    """
    root = {path for path in paths if "/" not in path}
    adapter = any(is_adapter_file(path) for path in root)
    signs = (
        ("diffusers", bool(root & _DIFFUSERS)),
        ("merged", adapter and any(_is(path, _FULL_WEIGHTS) for path in root)),
        ("adapter", adapter),
        ("sharded", any(map(is_index, root))),
        *_formats(root),
        ("adapters", any(is_adapter_file(path) for path in paths)),
        *_formats(paths),
    )
    return next((kind for kind, found in signs if found), "pytorch")


def _formats(paths: Collection[str]) -> list[tuple[str, bool]]:
    endings = (("full", ".safetensors"), ("pytorch", ".bin"), ("gguf", ".gguf"), ("onnx", ".onnx"))
    return [
        (kind, any(path.endswith(ending) and is_weights(path) for path in paths)) for kind, ending in endings
    ]
