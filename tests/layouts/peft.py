"""PEFT adapters of every sort. Source: github.com/huggingface/peft, docs and files named below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.layouts import llama
from tests.layouts.adapter import (
    ADAPTER,
    PREFIX,
    QUERY_VALUE,
    RANK,
    lora_config,
    lora_tensors,
    write_adapter,
)
from tests.layouts.files import BASE, TOKENIZER, card, put, tokenizer
from tests.layouts.layout import Layout
from tests.layouts.torch_zip import write_torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.layouts.tensors import Spec

_MORE_TOKENS = 5
_VIRTUAL_TOKENS = 8


def _modules_to_save(folder: Path) -> None:
    """LoRA with `modules_to_save=["lm_head", "embed_tokens"]`: both whole among the adapter's tensors.

    Source: peft/utils/save_and_load.py (`get_peft_model_state_dict`), and what PEFT 0.21 wrote.
    """
    config = lora_config(modules_to_save=["lm_head", "embed_tokens"])
    _save_pretrained(folder, config, _embeddings(llama.VOCAB) | lora_tensors())


def _resized_embeddings(folder: Path) -> None:
    """LoRA after `resize_token_embeddings`: PEFT saves both embeddings though the config names neither.

    Source: peft/utils/save_and_load.py (`save_embedding_layers="auto"`), and what PEFT 0.21 wrote.
    """
    vocab = llama.VOCAB + _MORE_TOKENS
    _save_pretrained(folder, lora_config(), _embeddings(vocab) | lora_tensors(), more_tokens=_MORE_TOKENS)


def _rank_pattern(folder: Path) -> None:
    """LoRA whose ranks differ by module. Source: PEFT docs, LoraConfig (`rank_pattern`, `alpha_pattern`)."""
    where = f"layers.0.{QUERY_VALUE[0]}"
    config = lora_config(rank_pattern={where: 2 * RANK}, alpha_pattern={where: 4 * RANK})
    _save_pretrained(folder, config, lora_tensors(ranks={where: 2 * RANK}))


def _dora(folder: Path) -> None:
    """DoRA: a magnitude for every output as well.

    Source: peft/tuners/lora/dora.py, and what PEFT 0.21 wrote.
    """
    tensors = lora_tensors()
    for name in [name for name in tensors if name.endswith("lora_B.weight")]:
        outputs = tensors[name][1][0]
        tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = ("F32", (outputs,))
    _save_pretrained(folder, lora_config(use_dora=True), tensors)


def _embedding_lora(folder: Path) -> None:
    """LoRA on the embedding: its pair lies transposed, and PEFT saves the layer below it too.

    Source: peft/tuners/lora/layer.py (`Embedding`), and what PEFT 0.21 wrote.
    """
    modules = (QUERY_VALUE[0],)
    tensors = lora_tensors(modules) | {
        f"{PREFIX}.embed_tokens.base_layer.weight": ("F32", (llama.VOCAB, llama.HIDDEN)),
        f"{PREFIX}.embed_tokens.lora_embedding_A": ("F32", (RANK, llama.VOCAB)),
        f"{PREFIX}.embed_tokens.lora_embedding_B": ("F32", (llama.HIDDEN, RANK)),
    }
    _save_pretrained(folder, lora_config((*modules, "embed_tokens")), tensors)


def _ia3(folder: Path) -> None:
    """IA³: one vector a module, on the inputs of feed-forward modules and the outputs of the others.

    Source: PEFT docs, "PEFT checkpoint format" (its adapter_config.json), and what PEFT 0.21 wrote.
    """
    scaled = "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"
    config = {
        "auto_mapping": None,
        "base_model_name_or_path": BASE,
        "fan_in_fan_out": False,
        "feedforward_modules": ["down_proj"],
        "inference_mode": True,
        "init_ia3_weights": True,
        "modules_to_save": None,
        "peft_type": "IA3",
        "revision": None,
        "target_modules": ["down_proj", "k_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    tensors: dict[str, Spec] = {}
    for layer in range(llama.LAYERS):
        for module in scaled:
            rows, columns = llama.LINEAR[module]
            shape = (1, columns) if module == "mlp.down_proj" else (rows, 1)
            tensors[f"{PREFIX}.layers.{layer}.{module}.ia3_l"] = ("F32", shape)
    _save_pretrained(folder, config, tensors)


def _prompt_tuning(folder: Path) -> None:
    """Prompt tuning: one tensor, its name without any prefix.

    Source: PEFT docs, "PEFT checkpoint format", and what PEFT 0.21 wrote.
    """
    config = {
        "auto_mapping": None,
        "base_model_name_or_path": BASE,
        "inference_mode": True,
        "modules_to_save": None,
        "num_attention_heads": llama.CONFIG["num_attention_heads"],
        "num_layers": llama.LAYERS,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": _VIRTUAL_TOKENS,
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "revision": None,
        "task_type": "CAUSAL_LM",
        "token_dim": llama.HIDDEN,
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    }
    _save_pretrained(folder, config, {"prompt_embeddings": ("F32", (_VIRTUAL_TOKENS, llama.HIDDEN))})


def _adapter_bin(folder: Path) -> None:
    """`safe_serialization=False`, or a PEFT of before 2024. Source: PEFT docs, "PEFT checkpoint format"."""
    put(folder / "adapter_config.json", lora_config())
    write_torch(folder / "adapter_model.bin", lora_tensors())
    tokenizer(folder)
    card(folder, "peft", "lora")


def _embeddings(vocab: int) -> dict[str, Spec]:
    names = f"{PREFIX}.embed_tokens.weight", "base_model.model.lm_head.weight"
    return dict.fromkeys(names, ("F32", (vocab, llama.HIDDEN)))


def _save_pretrained(
    folder: Path, config: dict[str, Any], tensors: Mapping[str, Spec], *, more_tokens: int = 0
) -> None:
    write_adapter(folder, config, tensors)
    tokenizer(folder, more_tokens=more_tokens)
    card(folder, "peft", "transformers")


LAYOUTS = {
    f"peft-{name}": Layout(make, "adapter", ADAPTER | TOKENIZER)
    for name, make in {
        "modules-to-save": _modules_to_save,
        "resized-embeddings": _resized_embeddings,
        "rank-pattern": _rank_pattern,
        "dora": _dora,
        "embedding-lora": _embedding_lora,
        "ia3": _ia3,
        "prompt-tuning": _prompt_tuning,
    }.items()
} | {
    "peft-adapter-bin": Layout(
        _adapter_bin, "adapter", TOKENIZER | {"adapter_config.json", "adapter_model.bin"}
    )
}
