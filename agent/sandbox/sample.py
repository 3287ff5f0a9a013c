"""A small output folder as TRL leaves it after training an adapter, made without any library."""

from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

RANK, HIDDEN, LAYERS = 64, 2048, 12
_F16_BYTES = 2
_SMALL = bytes(byte & 0xBF for byte in range(256))  # without the highest bit of the exponent: finite
_README = """---
library_name: peft
model_name: fine_tuned_model
base_model: /workspace/base
tags:
- base_model:adapter:/workspace/base
- lora
- sft
- transformers
- trl
---

# Model Card for fine_tuned_model

This model is a fine-tuned version of [None](https://huggingface.co/None).
It has been trained using [TRL](https://github.com/huggingface/trl).
"""


def make_output_folder(folder: Path) -> None:
    """Fill `folder` with a LoRA adapter, its tokenizer, a checkpoint and what must not be published."""
    folder.mkdir(parents=True)
    _safetensors(folder / "adapter_model.safetensors")
    _json(
        folder / "adapter_config.json",
        {
            "base_model_name_or_path": "/workspace/base",
            "peft_type": "LORA",
            "r": RANK,
            "lora_alpha": 2 * RANK,
            "target_modules": ["q_proj", "v_proj"],
            "task_type": "CAUSAL_LM",
        },
    )
    (folder / "README.md").write_text(_README, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8"
    )
    _json(folder / "tokenizer_config.json", {"tokenizer_class": "TokenizersBackend", "eos_token": "</s>"})
    _json(folder / "tokenizer.json", {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})
    (folder / "training_args.bin").write_bytes(b"pickled, with whatever token the script was given")
    checkpoint = folder / "checkpoint-120"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(bytes(1000))
    _json(
        checkpoint / "trainer_state.json", {"global_step": 120, "max_steps": 120, "log_history": _history()}
    )


def _history() -> list[dict[str, Any]]:
    losses = [2.31, 1.84, 1.52, 1.33, 1.21, 1.17]
    entries: list[dict[str, Any]] = [
        {
            "step": 20 * n,
            "loss": loss,
            "learning_rate": 2e-4 * (1 - n / 7),
            "mean_token_accuracy": 0.5 + n / 20,
        }
        for n, loss in enumerate(losses, start=1)
    ]
    return [*entries, {"step": 120, "eval_loss": 1.25}]


def _safetensors(path: Path) -> None:
    """Write a valid file: u64 header length, JSON header, then the tensors without gaps."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for layer in range(LAYERS):
        for module in ("q_proj", "v_proj"):
            for side, shape in (("A", [RANK, HIDDEN]), ("B", [HIDDEN, RANK])):
                size = shape[0] * shape[1] * _F16_BYTES
                name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{side}.weight"
                header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
                offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        weights = bytearray(random.Random(0).randbytes(offset))  # noqa: S311 - weights, no secret
        weights[1::2] = weights[1::2].translate(_SMALL)
        stream.write(weights)


def _json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
