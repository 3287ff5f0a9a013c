"""Runs of TRL's trainers that leave more than one model. Source: named at each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.layouts import llama
from tests.layouts.adapter import ADAPTER, checkpoint, lora
from tests.layouts.files import TOKENIZER, card, copy_real, put, real_json, tokenizer
from tests.layouts.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path


def _dpo_reference(folder: Path) -> None:
    """DPO from an adapter: the trained one in the root, the frozen reference in a folder named after it.

    Source: PEFT docs, "PEFT checkpoint format" (an adapter not named "default" is saved in a sub-directory);
    trl/trainer/dpo_trainer.py adds such an adapter itself, under the name "ref".
    """
    names = "README.md", "adapter_config.json", "adapter_model.safetensors", "training_args.bin"
    copy_real(" ".join(f"dpo_lora/{name}" for name in names), folder)
    tokenizer(folder)
    lora(folder / "reference")
    checkpoint(folder / "checkpoint-4", lora)
    lora(folder / "checkpoint-4" / "reference")


def _named_adapters(folder: Path) -> None:
    """Two named adapters and none called "default": nothing but folders. Source: as `_dpo_reference`."""
    for name in ("policy", "reference"):
        lora(folder / name)
    tokenizer(folder)
    card(folder, "trl", "dpo")
    copy_real("dpo_lora/training_args.bin", folder)


def _merged_model(folder: Path) -> None:
    """An adapter in the root, and in `merged_model/` what `merge_and_unload` made of it and its base.

    Source: PEFT docs, "Merge the weights"; the folder's name is what this agent's users call it.
    """
    _run(folder)
    checkpoint(folder / "checkpoint-4", lora)
    llama.sharded_model(folder / "merged_model")
    tokenizer(folder / "merged_model")


def _best_checkpoint(folder: Path) -> None:
    """load_best_model_at_end and EarlyStoppingCallback: the root holds the best, not the newest.

    Source: transformers/trainer_callback.py (`TrainerState`; `EarlyStoppingCallback.state`, from
    huggingface/transformers#29666), Trainer._load_best_model.
    """
    _run(folder)
    losses = {2: 1.25, 4: 1.5, 6: 1.75}
    for step in losses:
        checkpoint(folder / f"checkpoint-{step}", lora, step=step)
        state = _stopped_early(losses, step)
        put(folder / f"checkpoint-{step}" / "trainer_state.json", state)
    put(folder / "trainer_state.json", _stopped_early(losses, max(losses)))


def _run(folder: Path) -> None:
    lora(folder)
    tokenizer(folder)
    card(folder, "trl", "sft")
    copy_real("sft_lora/training_args.bin", folder)


def _stopped_early(losses: dict[int, float], step: int) -> dict[str, Any]:
    done = {at: loss for at, loss in losses.items() if at <= step}
    best = min(done, key=done.__getitem__)
    state = real_json("sft_lora/trainer_state.json")
    stopped = {
        "args": {"early_stopping_patience": 2, "early_stopping_threshold": 0.0},
        "attributes": {"early_stopping_patience_counter": sum(at > best for at in done)},
    }
    return state | {
        "best_global_step": best,
        "best_metric": done[best],
        "best_model_checkpoint": f"out/checkpoint-{best}",
        "global_step": step,
        "max_steps": 100,
        "log_history": [
            entry
            for at, loss in done.items()
            for entry in ({"step": at, "loss": loss - 0.1 * at}, {"step": at, "eval_loss": loss})
        ],
        "stateful_callbacks": {"EarlyStoppingCallback": stopped} | state["stateful_callbacks"],
    }


_STATE = frozenset(f"checkpoint-4/{name}" for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"))

LAYOUTS = {
    "trl-dpo-reference": Layout(
        _dpo_reference,
        "adapter",
        ADAPTER | TOKENIZER,
        _STATE | {"training_args.bin", "checkpoint-4/reference/adapter_model.safetensors"},
    ),
    "trl-named-adapters": Layout(
        _named_adapters,
        "adapters",
        TOKENIZER | {f"{name}/{file}" for name in ("policy", "reference") for file in ADAPTER},
        frozenset({"training_args.bin"}),
    ),
    "trl-merged-model": Layout(
        _merged_model,
        "sharded",
        frozenset(f"merged_model/{name}" for name in llama.SHARDED | TOKENIZER),
        _STATE | {"training_args.bin"},
    ),
    "trl-best-checkpoint": Layout(
        _best_checkpoint,
        "adapter",
        ADAPTER | TOKENIZER,
        _STATE | {"training_args.bin", "trainer_state.json", "checkpoint-2/adapter_model.safetensors"},
    ),
}
