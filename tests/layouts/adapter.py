"""PEFT adapters of the tiny Llama, with configs that say what their tensors are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.layouts.files import BASE, put, real_json, tokenizer, training_state
from tests.layouts.llama import LAYERS, LINEAR
from tests.layouts.tensors import write_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.layouts.tensors import Spec

RANK = 4
ADAPTER = frozenset({"adapter_config.json", "adapter_model.safetensors"})
QUERY_VALUE = ("self_attn.q_proj", "self_attn.v_proj")
PREFIX = "base_model.model.model"


def lora_tensors(
    modules: tuple[str, ...] = QUERY_VALUE, *, dtype: str = "F32", ranks: Mapping[str, int] | None = None
) -> dict[str, Spec]:
    """LoRA pairs of these modules in every layer.

    Args:
        modules: names in a layer.
        dtype: of all tensors.
        ranks: by layer and module (`layers.0.self_attn.q_proj`), where it is not RANK.

    Source: PEFT docs, "PEFT checkpoint format"; the names are those that PEFT 0.21 wrote for this model.
    """
    found: dict[str, Spec] = {}
    for layer in range(LAYERS):
        for module in modules:
            where = f"layers.{layer}.{module}"
            rows, columns = LINEAR[module]
            rank = (ranks or {}).get(where, RANK)
            found[f"{PREFIX}.{where}.lora_A.weight"] = (dtype, (rank, columns))
            found[f"{PREFIX}.{where}.lora_B.weight"] = (dtype, (rows, rank))
    return found


def lora_config(modules: tuple[str, ...] = QUERY_VALUE, **more: Any) -> dict[str, Any]:
    """A real adapter_config.json with these modules and other values in place of its own."""
    names = sorted(module.split(".")[-1] for module in modules)
    real = real_json("sft_lora/adapter_config.json")
    return real | {"base_model_name_or_path": BASE, "r": RANK, "target_modules": names} | more


def lora(folder: Path, modules: tuple[str, ...] = QUERY_VALUE, *, dtype: str = "F32") -> None:
    """A plain LoRA adapter of these modules."""
    write_adapter(folder, lora_config(modules), lora_tensors(modules, dtype=dtype))


def write_adapter(folder: Path, config: dict[str, Any], tensors: Mapping[str, Spec]) -> None:
    """An adapter of any type."""
    put(folder / "adapter_config.json", config)
    write_safetensors(folder / "adapter_model.safetensors", tensors)


def checkpoint(folder: Path, model: Callable[[Path], None], *, step: int = 4, optimizer: bool = True) -> None:
    """A `checkpoint-N` folder of transformers' Trainer: the model as it was, and all it takes to go on."""
    model(folder)
    tokenizer(folder)
    training_state(folder, step=step, optimizer=optimizer)
