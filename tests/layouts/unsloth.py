"""What unsloth saves. Source: github.com/unslothai/unsloth, unsloth/save.py unless another file is named."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from tests.layouts import llama
from tests.layouts.adapter import ADAPTER, checkpoint, lora_config, lora_tensors, write_adapter
from tests.layouts.files import TOKENIZER, card, put, tokenizer
from tests.layouts.gguf import write_llama_gguf
from tests.layouts.layout import Layout
from tests.layouts.tensors import write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layouts.tensors import Spec

_ALL_LINEAR = tuple(llama.LINEAR)
_MODELFILE = 'FROM model.Q8_0.gguf\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER stop "</s>"\n'
_BLOCK, _BLOCKS_BLOCK = 64, 256
_NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip
_QUANTIZATION = {
    "_load_in_4bit": True,
    "_load_in_8bit": False,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "quant_method": "bitsandbytes",
}


def _lora(folder: Path) -> None:
    """`model.save_pretrained("lora_model")` and the tokenizer's.

    Source: unsloth/models/llama.py (`fix_lora_auto_mapping` fills in what PEFT leaves null).
    """
    _adapter(folder)
    tokenizer(folder)


def _merged_16bit(folder: Path) -> None:
    """`save_method="merged_16bit"`. Source: `unsloth_generic_save_pretrained_merged`."""
    llama.full_model(folder)
    tokenizer(folder)


def _merged_4bit(folder: Path) -> None:
    """`save_method="merged_4bit_forced"`: packed weights, each with its quantization state beside it.

    Source: bitsandbytes/functional.py (`QuantState.as_dict(packed=True)`); unsloth quantizes twice.
    """
    llama.configs(folder, quantization_config=_QUANTIZATION)
    everything = llama.tensors()
    for layer in range(llama.LAYERS):
        for module, shape in llama.LINEAR.items():
            name = f"model.layers.{layer}.{module}.weight"
            everything |= _four_bit(name, shape)
    write_safetensors(folder / "model.safetensors", everything)
    tokenizer(folder)


def _lora_and_merged(folder: Path) -> None:
    """LoRA and merged_16bit saved under one name.

    Source: github.com/unslothai/notebooks, "Saving to float16 for VLLM": for years every cell said "model".
    """
    _lora(folder)
    _merged_16bit(folder)


def _gguf(folder: Path) -> None:
    """`save_pretrained_gguf("model", …)`: the folder `model_gguf/` that it makes beside `model/`.

    Source: `save_to_gguf` (`{model_name}.{METHOD}.gguf`), `unsloth_save_pretrained_gguf` (step 9).
    """
    write_llama_gguf(folder / "model.Q8_0.gguf")
    put(folder / "Modelfile", _MODELFILE)


def _gguf_beside_config(folder: Path) -> None:
    """GGUF beside the config of what it was made of: the files that `push_to_hub_gguf` puts in a repo.

    Source: `unsloth_push_to_hub_gguf`.
    """
    put(folder / "config.json", llama.CONFIG)
    write_llama_gguf(folder / "unsloth.Q8_0.gguf")
    put(folder / "Modelfile", _MODELFILE.replace("model.Q8_0", "unsloth.Q8_0"))
    card(folder, "gguf", "unsloth")


def _checkpoint(folder: Path) -> None:
    """`outputs/checkpoint-60` itself, given as the folder to publish.

    Source: as `_outputs`.
    """
    checkpoint(folder, _adapter, step=60)


def _outputs(folder: Path) -> None:
    """A run that saves nothing after the training.

    Source: github.com/unslothai/notebooks (`output_dir = "outputs"`, `max_steps = 60`); the card is TRL's
    (`_save_checkpoint` of its trainers writes it to the root).
    """
    card(folder, "unsloth", "trl", "sft")
    _checkpoint(folder / "checkpoint-60")


def _adapter(folder: Path) -> None:
    mapping = {
        "base_model_class": "LlamaForCausalLM",
        "parent_library": "transformers.models.llama.modeling_llama",
        "unsloth_fixed": True,
    }
    write_adapter(folder, lora_config(_ALL_LINEAR, auto_mapping=mapping), lora_tensors(_ALL_LINEAR))
    card(folder, "base_model:adapter:HuggingFaceTB/SmolLM2-135M", "lora", "unsloth")


def _four_bit(name: str, shape: tuple[int, int]) -> dict[str, Spec]:
    """A linear weight in NF4: two values a byte, scales of blocks, and scales of blocks of scales."""
    values = shape[0] * shape[1]
    blocks = -(-values // _BLOCK)
    state = {
        "quant_type": "nf4",
        "blocksize": _BLOCK,
        "dtype": "bfloat16",
        "shape": list(shape),
        "nested_blocksize": _BLOCKS_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": 0.05,
    }
    text = json.dumps(state).encode()
    code = struct.pack("<16f", *_NF4)
    return {
        name: ("U8", (values // 2, 1)),
        f"{name}.absmax": ("U8", (blocks,)),
        f"{name}.nested_absmax": ("F32", (-(-blocks // _BLOCKS_BLOCK),)),
        f"{name}.nested_quant_map": ("F32", (256,)),
        f"{name}.quant_map": ("F32", (len(_NF4),), code),
        f"{name}.quant_state.bitsandbytes__nf4": ("U8", (len(text),), text),
    }


_STATE = "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"

LAYOUTS = {
    "unsloth-lora": Layout(_lora, "adapter", ADAPTER | TOKENIZER),
    "unsloth-merged-16bit": Layout(_merged_16bit, "full", llama.FULL | TOKENIZER),
    "unsloth-merged-4bit": Layout(_merged_4bit, "full", llama.FULL | TOKENIZER),
    "unsloth-lora-and-merged": Layout(_lora_and_merged, "merged", ADAPTER | llama.FULL | TOKENIZER),
    "unsloth-gguf": Layout(_gguf, "gguf", frozenset({"model.Q8_0.gguf", "Modelfile"})),
    "unsloth-gguf-beside-config": Layout(
        _gguf_beside_config, "gguf", frozenset({"config.json", "unsloth.Q8_0.gguf", "Modelfile"})
    ),
    "unsloth-checkpoint": Layout(_checkpoint, "adapter", ADAPTER | TOKENIZER, frozenset(_STATE)),
    "unsloth-outputs": Layout(
        _outputs,
        "adapter",
        frozenset(f"checkpoint-60/{name}" for name in ADAPTER | TOKENIZER),
        frozenset(f"checkpoint-60/{name}" for name in _STATE),
    ),
}
