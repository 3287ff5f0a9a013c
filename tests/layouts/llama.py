"""The model of the real fixtures, a Llama of two layers: its tensors, whole and in shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.layouts.files import copy_real, put, real_json
from tests.layouts.tensors import size_of, write_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.layouts.tensors import Spec

CONFIG = real_json("base/config.json") | {"dtype": "bfloat16"}
HIDDEN: int = CONFIG["hidden_size"]
INTERMEDIATE: int = CONFIG["intermediate_size"]
LAYERS: int = CONFIG["num_hidden_layers"]
VOCAB: int = CONFIG["vocab_size"]
# name in a layer -> rows (output), columns (input); heads of keys and values are as many as of queries
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
_SHARDS = 2

CONFIGS = frozenset({"config.json", "generation_config.json"})
FULL = CONFIGS | {"model.safetensors"}
SHARDED = CONFIGS | {
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
}


def tensors(dtype: str = "BF16") -> dict[str, Spec]:
    """Every tensor of the model, in the order of its layers."""
    found: dict[str, Spec] = {"model.embed_tokens.weight": (dtype, (VOCAB, HIDDEN))}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for module, shape in LINEAR.items():
            found[f"{prefix}.{module}.weight"] = (dtype, shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}.{norm}.weight"] = (dtype, (HIDDEN,))
    found["model.norm.weight"] = (dtype, (HIDDEN,))
    found["lm_head.weight"] = (dtype, (VOCAB, HIDDEN))
    return found


def configs(folder: Path, **more: Any) -> None:
    """config.json and generation_config.json of the model in bfloat16."""
    put(folder / "config.json", CONFIG | more)
    copy_real("base/generation_config.json", folder)


def full_model(folder: Path) -> None:
    """The whole model in one file."""
    configs(folder)
    write_safetensors(folder / "model.safetensors", tensors())


def sharded_model(folder: Path) -> None:
    """The whole model in two shards with an index."""
    configs(folder)
    write_shards(folder, "model", "safetensors", write_safetensors)


def write_shards(
    folder: Path, stem: str, suffix: str, write: Callable[[Path, Mapping[str, Spec]], None]
) -> None:
    """The model's tensors in two shards, and their index, named as transformers' `save_pretrained` does.

    Source: huggingface_hub's `split_torch_state_dict_into_shards`; `total_size` counts data, not headers.
    """
    everything = tensors()
    names = list(everything)
    weight_map: dict[str, str] = {}
    for number in range(_SHARDS):
        shard = f"{stem}-{number + 1:05}-of-{_SHARDS:05}.{suffix}"
        chosen = names[number * len(names) // _SHARDS : (number + 1) * len(names) // _SHARDS]
        write(folder / shard, {name: everything[name] for name in chosen})
        weight_map |= dict.fromkeys(chosen, shard)
    metadata = {"total_size": sum(map(size_of, everything.values()))}
    put(
        folder / f"{stem}.{suffix}.index.json",
        {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))},
    )
