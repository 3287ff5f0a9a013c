"""What diffusers saves. Source: github.com/huggingface/diffusers, docs and scripts named below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.layouts import pipeline
from tests.layouts.files import plot, put, tensorboard
from tests.layouts.layout import Layout
from tests.layouts.tensors import write_safetensors
from tests.layouts.torch_zip import write_torch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layouts.tensors import Spec

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_LORA = "pytorch_lora_weights.safetensors"
_RANK = 4
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _pipeline(folder: Path) -> None:
    """A fine-tuned Stable Diffusion pipeline: one folder for each of its models.

    Source: docs/source/en/using-diffusers/other-formats.md, examples/text_to_image/train_text_to_image.py
    (`pipeline.save_pretrained(output_dir)`; accelerate's `save_state` fills checkpoint-N).
    """
    put(folder / "model_index.json", pipeline.INDEX)
    _model(folder / "unet", pipeline.UNET, pipeline.unet())
    _model(folder / "vae", pipeline.VAE, pipeline.vae())
    put(folder / "text_encoder" / "config.json", pipeline.TEXT_ENCODER)
    write_safetensors(folder / "text_encoder" / "model.safetensors", pipeline.text_encoder())
    put(folder / "scheduler" / "scheduler_config.json", pipeline.SCHEDULER)
    _clip_tokenizer(folder / "tokenizer")
    _model(folder / "checkpoint-500" / "unet", pipeline.UNET, pipeline.unet())
    _state_of_accelerate(folder / "checkpoint-500")
    put(folder / "README.md", "---\nlibrary_name: diffusers\ntags:\n- text-to-image\n---\n")


def _lora(folder: Path) -> None:
    """A LoRA of the UNet, with the pictures of its last validation.

    Source: examples/text_to_image/train_text_to_image_lora.py (`save_lora_weights`, `save_model_card`).
    """
    for to in (folder, folder / "checkpoint-500"):
        write_safetensors(to / _LORA, _lora_tensors())
    _state_of_accelerate(folder / "checkpoint-500")
    put(folder / "README.md", "---\nlibrary_name: diffusers\ntags:\n- lora\n---\n![img_0](./image_0.png)\n")
    plot(folder / "image_0.png")


def _lora_tensors() -> dict[str, Spec]:
    """Pairs for every attention matrix, in the names that diffusers 0.42 wrote for this UNet."""
    found: dict[str, Spec] = {}
    for name, spec in pipeline.unet().items():
        if ".attn" in name and name.endswith(".weight"):
            outputs, inputs = spec[1]
            prefix = f"unet.{name.removesuffix('.weight')}.lora"
            found[f"{prefix}.down.weight"] = ("F32", (_RANK, inputs))
            found[f"{prefix}.up.weight"] = ("F32", (outputs, _RANK))
    return found


def _model(folder: Path, config: dict[str, Any], tensors: dict[str, Spec]) -> None:
    put(folder / "config.json", config)
    write_safetensors(folder / _WEIGHTS, tensors)


def _clip_tokenizer(folder: Path) -> None:
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), start, end]
    assert len(tokens) == pipeline.VOCAB
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    put(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    put(folder / "merges.txt", "#version: 0.2\n")
    put(folder / "special_tokens_map.json", special)
    limit = pipeline.TEXT_ENCODER["max_position_embeddings"]
    put(
        folder / "tokenizer_config.json",
        special | {"model_max_length": limit, "tokenizer_class": "CLIPTokenizer"},
    )


def _state_of_accelerate(folder: Path) -> None:
    for name in ("optimizer.bin", "scheduler.bin"):
        write_torch(folder / name, {"state": ("F32", (8,))})
    put(folder / "random_states_0.pkl", b"\x80\x02}q\0.")
    tensorboard(folder.parent / "logs" / "text2image-fine-tune")


_PIPELINE_FILES = frozenset(
    {
        "model_index.json",
        "unet/config.json",
        f"unet/{_WEIGHTS}",
        "vae/config.json",
        f"vae/{_WEIGHTS}",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
    }
)
_STATE = frozenset(
    f"checkpoint-500/{name}" for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")
)

LAYOUTS = {
    "diffusers-pipeline": Layout(
        _pipeline, "diffusers", _PIPELINE_FILES, _STATE | {f"checkpoint-500/unet/{_WEIGHTS}"}
    ),
    "diffusers-lora": Layout(_lora, "diffusers", frozenset({_LORA}), _STATE | {f"checkpoint-500/{_LORA}"}),
}
