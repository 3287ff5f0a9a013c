"""Folders of runs that ended well and left no model to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.layouts import llama
from tests.layouts.adapter import lora_config, write_adapter
from tests.layouts.files import card, copy_real, fsdp_state, put, tokenizer, training_state, zero3_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def _zero3(folder: Path) -> None:
    """DeepSpeed ZeRO-3 without stage3_gather_16bit_weights_on_model_save.

    Source: transformers' Trainer.save_model (saves the config, removes the dummy weights, then lets DeepSpeed
    save its state), huggingface/transformers#30491.
    """
    llama.configs(folder)
    _saved_by_trainer(folder)
    zero3_state(folder)
    training_state(folder / "checkpoint-4", optimizer=False)
    zero3_state(folder / "checkpoint-4")


def _zero3_empty_adapter(folder: Path) -> None:
    """The same with an adapter, whose dummy weights nobody removes: a valid file without a tensor.

    Source: as above (only the names of full models are removed), huggingface/peft#453.
    """
    write_adapter(folder, lora_config(), {})
    _saved_by_trainer(folder)
    zero3_state(folder)


def _fsdp_sharded(folder: Path) -> None:
    """FSDP with SHARDED_STATE_DICT, never merged.

    Source: transformers' Trainer.save_model (saves with FULL_STATE_DICT only); accelerate docs, "Fully
    Sharded Data Parallel" (merging with `accelerate merge-weights`).
    """
    put(folder / "config.json", llama.CONFIG)
    _saved_by_trainer(folder)
    fsdp_state(folder, "pytorch_model_fsdp_0")
    training_state(folder / "checkpoint-4", optimizer=False)
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        fsdp_state(folder / "checkpoint-4", name)


def _empty(folder: Path) -> None:
    """Nothing at all: the training wrote elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)


def _only_tokenizer(folder: Path) -> None:
    """`tokenizer.save_pretrained` was called, `model.save_pretrained` was not."""
    tokenizer(folder)


def _saved_by_trainer(folder: Path) -> None:
    tokenizer(folder)
    card(folder, "generated_from_trainer")
    copy_real("sft_lora/training_args.bin", folder)


UNPUBLISHABLE: Mapping[str, Callable[[Path], None]] = {
    "zero3-not-gathered": _zero3,
    "zero3-empty-adapter": _zero3_empty_adapter,
    "fsdp-sharded-only": _fsdp_sharded,
    "empty": _empty,
    "only-tokenizer": _only_tokenizer,
}
