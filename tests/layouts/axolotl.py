"""What axolotl leaves in `output_dir`. Source: github.com/axolotl-ai-cloud/axolotl, files named below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.layouts import llama
from tests.layouts.adapter import ADAPTER, checkpoint, lora
from tests.layouts.files import (
    EVENTS,
    TOKENIZER,
    card,
    copy_real,
    fsdp_state,
    put,
    tensorboard,
    tokenizer,
    training_state,
    zero3_state,
)
from tests.layouts.layout import Layout
from tests.layouts.tensors import write_safetensors
from tests.layouts.torch_zip import write_torch

if TYPE_CHECKING:
    from pathlib import Path

_ALL_LINEAR = tuple(llama.LINEAR)  # lora_target_linear: true
_STEPS = (2, 4)


def _lora_run(folder: Path) -> None:
    """LoRA or QLoRA: the adapter, and the base model's config.json beside it.

    Source: src/axolotl/train.py (`save_initial_configs` saves adapter, tokenizer and model config before the
    training, `save_trained_model` the adapter after it), src/axolotl/utils/tee.py (debug.log).
    """
    _adapter(folder)
    _beside_a_model(folder, "axolotl", "lora")
    for step in _STEPS:
        checkpoint(folder / f"checkpoint-{step}", _adapter, step=step)


def _full(folder: Path) -> None:
    """Full fine-tune, saved in shards.

    Source: src/axolotl/train.py (`save_trained_model` ends in `model.save_pretrained`).
    """
    llama.sharded_model(folder)
    _beside_a_model(folder, "axolotl", "generated_from_trainer")
    checkpoint(folder / "checkpoint-4", llama.sharded_model)


def _merged(folder: Path) -> None:
    """A LoRA run after `axolotl merge-lora`: the merged model in a folder below.

    Source: docs/inference.qmd and docs/getting-started.qmd ("saved in {output_dir}/merged"),
    src/axolotl/cli/merge_lora.py.
    """
    _adapter(folder)
    _beside_a_model(folder, "axolotl", "lora")
    checkpoint(folder / "checkpoint-4", _adapter)
    llama.full_model(folder / "merged")
    tokenizer(folder / "merged")


def _fsdp(folder: Path) -> None:
    """FSDP with SHARDED_STATE_DICT: merged out of the last checkpoint and moved to the root.

    Source: src/axolotl/train.py (`save_trained_model`, the branch for SHARDED_STATE_DICT).
    """
    _after_fsdp(folder)
    write_safetensors(folder / "model.safetensors", llama.tensors())


def _fsdp_merged_by_hand(folder: Path) -> None:
    """FSDP of an older release after `axolotl merge-sharded-fsdp-weights`: weights alone in `merged/`.

    Source: src/axolotl/cli/merge_sharded_fsdp_weights.py (it ends by saying that configuration and tokenizer
    are in the output folder only).
    """
    _after_fsdp(folder)
    fsdp_state(folder, "pytorch_model_fsdp_0")
    write_safetensors(folder / "merged" / "model.safetensors", llama.tensors())


def _zero3(folder: Path) -> None:
    """DeepSpeed ZeRO-3 with gathering: a whole model in the root, DeepSpeed's state in checkpoints.

    Source: src/axolotl/train.py (`save_trained_model`, the branch for ZeRO-3), transformers' Trainer
    (`save_model` needs stage3_gather_16bit_weights_on_model_save for this).
    """
    llama.sharded_model(folder)
    _beside_a_model(folder, "axolotl", "generated_from_trainer")
    copy_real("sft_lora/training_args.bin", folder)
    checkpoint(folder / "checkpoint-4", llama.sharded_model, optimizer=False)
    zero3_state(folder / "checkpoint-4")


def _zero3_recovered(folder: Path) -> None:
    """ZeRO-3 without gathering, after `python zero_to_fp32.py . .`: state in the root, and now weights.

    Source: deepspeed/utils/zero_to_fp32.py (`convert_zero_checkpoint_to_fp32_state_dict`), transformers'
    Trainer.save_model (saves the full state when `get_state_dict` raises).
    """
    llama.configs(folder)
    _beside_a_model(folder, "axolotl", "generated_from_trainer")
    copy_real("sft_lora/training_args.bin", folder)
    zero3_state(folder)
    write_torch(folder / "pytorch_model.bin", llama.tensors("F32"))


def _adapter(folder: Path) -> None:
    lora(folder, _ALL_LINEAR, dtype="BF16")
    put(folder / "config.json", llama.CONFIG)


def _after_fsdp(folder: Path) -> None:
    put(folder / "config.json", llama.CONFIG)
    _beside_a_model(folder, "axolotl", "generated_from_trainer")
    copy_real("sft_lora/training_args.bin", folder)
    last = folder / "checkpoint-4"
    training_state(last, optimizer=False)
    fsdp_state(last, "pytorch_model_fsdp_0")
    fsdp_state(last, "optimizer_0")


def _beside_a_model(folder: Path, *tags: str) -> None:
    tokenizer(folder)
    card(folder, *tags)
    put(folder / "debug.log", "[INFO] [axolotl.train] Training completed!\n")
    tensorboard(folder / "runs" / "Jan01_00-00-00_pod")


_EVENTS = f"runs/Jan01_00-00-00_pod/{EVENTS}"
_STAYS = frozenset({"debug.log", _EVENTS, "checkpoint-4/trainer_state.json", "checkpoint-4/rng_state.pth"})
_FSDP_STAYS = _STAYS | {
    "training_args.bin",
    "checkpoint-4/pytorch_model_fsdp_0/__0_0.distcp",
    "checkpoint-4/optimizer_0/.metadata",
}
_ZERO3_STAYS = frozenset(
    {"latest", "zero_to_fp32.py", "global_step4/zero_pp_rank_0_mp_rank_00_model_states.pt"}
)

LAYOUTS = {
    "axolotl-lora": Layout(
        _lora_run,
        "adapter",
        ADAPTER | TOKENIZER | {"config.json"},
        _STAYS | {"checkpoint-2/adapter_model.safetensors", "checkpoint-4/optimizer.pt"},
    ),
    "axolotl-full": Layout(
        _full,
        "sharded",
        llama.SHARDED | TOKENIZER,
        _STAYS | {"checkpoint-4/model-00001-of-00002.safetensors", "checkpoint-4/optimizer.pt"},
    ),
    "axolotl-merged": Layout(
        _merged,
        "adapter",
        ADAPTER | TOKENIZER | {"config.json"} | {f"merged/{name}" for name in llama.FULL | TOKENIZER},
        _STAYS | {"checkpoint-4/adapter_model.safetensors", "checkpoint-4/optimizer.pt"},
    ),
    "axolotl-fsdp": Layout(_fsdp, "full", TOKENIZER | {"config.json", "model.safetensors"}, _FSDP_STAYS),
    "axolotl-fsdp-merged-by-hand": Layout(
        _fsdp_merged_by_hand,
        "full",
        TOKENIZER | {"config.json", "merged/model.safetensors"},
        _FSDP_STAYS | {"pytorch_model_fsdp_0/__0_0.distcp"},
    ),
    "axolotl-zero3": Layout(
        _zero3,
        "sharded",
        llama.SHARDED | TOKENIZER,
        _STAYS | {"training_args.bin"} | {f"checkpoint-4/{name}" for name in _ZERO3_STAYS},
    ),
    "axolotl-zero3-recovered": Layout(
        _zero3_recovered,
        "pytorch",
        llama.CONFIGS | TOKENIZER | {"pytorch_model.bin"},
        _ZERO3_STAYS | {"training_args.bin", "debug.log", _EVENTS},
    ),
}
