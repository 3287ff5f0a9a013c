"""Output folders to publish, made the same on every machine: valid safetensors full of noise."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import time
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING

from bench.child import REPO_ROOT, BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIXTURE = REPO_ROOT / "tests" / "fixtures" / "trl" / "sft_full"
OTHER_FIXTURE = REPO_ROOT / "tests" / "fixtures" / "trl" / "sharded"
MEGA = 1_000_000
WEIGHTS, LOG = "model.safetensors", "trainer_state.json"
LOGGED_STEPS = 1000
_STEP_BYTES = 8 * 2**20  # small, because a child's peak RSS is never below ours
_ROW_BYTES = 2 * 4096  # one row of a bfloat16 tensor
_AGE_S = 3600
_SETTLED_S = 2.5  # younger files are read again by whoever remembers hashes by their stamp
_FINITE = bytes(byte & 0xBF for byte in range(256))  # without the highest bit of the exponent
_CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}


@contextmanager
def one_file_model(tmp: Path, size_mb: float, *, logged: bool = False) -> Iterator[Path]:
    """A whole model in one weights file of `size_mb`, with the log of its training if it is to have one.

    The folder is removed at the end.
    """
    need_space(tmp, 2.2 * size_mb * MEGA)  # the folder, and what the Hub stores of it
    with _folder(tmp, f"model-{size_mb:g}mb") as folder:
        _write_safetensors(folder / WEIGHTS, round(size_mb * MEGA), seed=1)
        if logged:
            write_log(folder)
        _settle(folder)
        yield folder


@contextmanager
def sharded_model(tmp: Path, shards: int, size_mb: float) -> Iterator[Path]:
    """A model of `size_mb` in `shards` weights files and three others; the folder is removed at the end."""
    need_space(tmp, 2.2 * size_mb * MEGA)
    with _folder(tmp, f"model-{shards}-shards") as folder:
        weight_map, total_size = {}, 0
        for number in range(1, shards + 1):
            name = f"model-{number:05}-of-{shards:05}.safetensors"
            tensor = f"layer.{number}"
            size = round(size_mb * MEGA / shards)
            total_size += _write_safetensors(folder / name, size, seed=number, tensor=tensor)
            weight_map[tensor] = name
        index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        _settle(folder)
        yield folder


@contextmanager
def _folder(tmp: Path, name: str) -> Iterator[Path]:
    folder = tmp / name
    folder.mkdir()
    try:
        (folder / "config.json").write_text(json.dumps(_CONFIG))
        (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE"}}))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_log(folder: Path) -> None:
    """Leave the log of a DPO training of a thousand steps, as transformers writes it."""
    noise = random.Random(3)
    history = [
        {
            "step": step,
            "epoch": step / LOGGED_STEPS,
            "loss": 0.7 * 0.998**step + noise.gauss(0, 0.02),
            "grad_norm": 1 + noise.random(),
            "learning_rate": 5e-6 * (1 - step / LOGGED_STEPS),
            "rewards/margins": step / 400 + noise.gauss(0, 0.1),
            "rewards/accuracies": 0.5 + min(0.4, step / 2000),
        }
        for step in range(1, LOGGED_STEPS + 1)
    ]
    history += [
        {"step": step, "eval_loss": 0.72 * 0.9985**step} for step in range(100, LOGGED_STEPS + 1, 100)
    ]
    history.sort(key=itemgetter("step"))
    state = {"global_step": LOGGED_STEPS, "max_steps": LOGGED_STEPS, "epoch": 1.0, "log_history": history}
    (folder / LOG).write_text(json.dumps(state))


def _write_safetensors(path: Path, about_bytes: int, *, seed: int, tensor: str = "weight") -> int:
    """Write one tensor of noise, finite numbers all, and return its bytes."""
    rows = max(1, about_bytes // _ROW_BYTES)
    size = rows * _ROW_BYTES
    header = json.dumps(
        {tensor: {"dtype": "BF16", "shape": [rows, _ROW_BYTES // 2], "data_offsets": [0, size]}}
    )
    header += " " * (-len(header) % 8)
    noise = random.Random(seed)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header.encode())
        for start in range(0, size, _STEP_BYTES):
            weights = bytearray(noise.randbytes(min(_STEP_BYTES, size - start)))
            weights[1::2] = weights[1::2].translate(_FINITE)
            stream.write(weights)
    return size


def _settle(folder: Path) -> None:
    """Make the files look an hour old, and wait until no stamp is suspiciously fresh."""
    an_hour_ago = time.time() - _AGE_S
    for path in folder.iterdir():
        os.utime(path, (an_hour_ago, an_hour_ago))
    time.sleep(_SETTLED_S)


def need_space(tmp: Path, size_bytes: float) -> None:
    free = shutil.disk_usage(tmp).free
    if free < size_bytes:
        raise BenchError(
            f"{tmp} has {free / 1e9:.1f} GB free, {size_bytes / 1e9:.1f} GB are needed; "
            "set TMPDIR to a roomier place or lower --size-mb"
        )
