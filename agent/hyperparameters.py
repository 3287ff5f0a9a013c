"""Hyperparameters by their one name, whatever tool wrote them down; nothing else is taken from its files.

A training's configuration may hold tokens and paths of the machine: only what is listed here reaches a card.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Value = str | float | bool

# The name that transformers, TRL and PEFT give it, and what other tools and configurations call it.
_NAMES: dict[str, tuple[str, ...]] = {
    "learning_rate": (),
    "lr_scheduler_type": ("lr_scheduler",),
    "warmup_ratio": (),
    "warmup_steps": (),
    "num_train_epochs": ("num_epochs", "epochs"),
    "max_steps": (),
    "per_device_train_batch_size": ("batch_size", "micro_batch_size"),
    "gradient_accumulation_steps": (),
    "optim": ("optimizer",),
    "weight_decay": (),
    "max_grad_norm": (),
    "max_length": ("max_seq_length", "sequence_len", "cutoff_len"),
    "max_prompt_length": (),
    "packing": ("sample_packing",),
    "beta": ("pref_beta",),
    "loss_type": (),
    "label_smoothing": (),
    "neftune_noise_alpha": (),
    "assistant_only_loss": (),
    "completion_only_loss": (),
    "gradient_checkpointing": (),
    "bf16": (),
    "fp16": (),
    "load_in_4bit": (),
    "load_in_8bit": (),
    "seed": (),
    "r": ("lora_r", "lora_rank"),
    "lora_alpha": ("alpha",),
    "lora_dropout": ("dropout",),
    "use_dora": (),
    "use_rslora": (),
    "target_modules": ("lora_target_modules", "lora_target"),
}
NAMES = tuple(_NAMES)
_FOLDERS = ("training", "lora", "quantization")
_WORD = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}", re.ASCII)
_LARGEST_EXACT = 2**53
_LISTED = 12
_UNSET = -1


def pick(document: Mapping[str, object]) -> dict[str, Value]:
    """The hyperparameters of a configuration, flat or in the groups `training`, `lora` and `quantization`.

    Switches that are off, and whatever is no short word or ordinary number, are passed over.
    """
    groups = list(_groups(document))
    found = {}
    for name, others in _NAMES.items():
        values = (_value(group[key]) for group in groups for key in (name, *others) if key in group)
        value = next((value for value in values if value is not None), None)
        if value is not None:
            found[name] = value
    return found


def _groups(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    yield document
    training = document.get("training")
    for parent in (document, training):
        for name in _FOLDERS:
            inner = parent.get(name) if isinstance(parent, dict) else None
            unused = name == "lora" and isinstance(training, dict) and training.get("use_lora") is False
            if isinstance(inner, dict) and not unused:
                yield inner


def _value(value: object) -> Value | None:
    if isinstance(value, bool):
        return value or None
    if isinstance(value, int | float):
        if value == _UNSET:
            return None
        return value if abs(value) <= _LARGEST_EXACT else None  # NaN is not either
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else None
    if isinstance(value, list):
        words = [word for word in value if isinstance(word, str) and _WORD.fullmatch(word)]
        more = len(words) - _LISTED
        return ", ".join(words[:_LISTED]) + (f" and {more} more" if more > 0 else "") or None
    return None
