"""Files that surround a model in most layouts: tokenizer, training state, records, plots, logs."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.layouts.torch_zip import write_torch

REAL = Path(__file__).resolve().parent.parent / "fixtures" / "trl"
TOKENIZER = frozenset(
    {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}
)
EVENTS = "events.out.tfevents.1700000000.pod.1.0"
BASE = "HuggingFaceTB/SmolLM2-135M"


def put(path: Path, content: str | bytes | dict[str, Any] | list[Any]) -> None:
    """Write a file, and the folders above it; dicts and lists become JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        path.write_text(text, encoding="utf-8")


def copy_real(names: str, to: Path) -> None:
    """Copy real files, named with spaces between, into a folder."""
    to.mkdir(parents=True, exist_ok=True)
    for name in names.split():
        shutil.copyfile(REAL / name, to / Path(name).name)


def real_json(name: str) -> dict[str, Any]:
    """What a real JSON file holds."""
    found: dict[str, Any] = json.loads((REAL / name).read_text(encoding="utf-8"))
    return found


def tokenizer(folder: Path, *, more_tokens: int = 0) -> None:
    """The real tokenizer as transformers 4 saves it, with so many tokens added at the end."""
    copy_real("base/tokenizer_config.json base/chat_template.jinja", folder)
    document = real_json("base/tokenizer.json")
    model_tokens = len(document["model"]["vocab"])
    template = document["added_tokens"][-1]
    document["added_tokens"] += [
        {**template, "id": model_tokens + more, "content": f"<|extra_{more}|>"} for more in range(more_tokens)
    ]
    put(folder / "tokenizer.json", document)
    config = real_json("base/tokenizer_config.json")
    special = {key: config[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    put(folder / "special_tokens_map.json", special)


def training_state(folder: Path, *, step: int = 4, optimizer: bool = True) -> None:
    """What a Trainer needs to go on from here, weights aside: real files of a TRL run.

    DeepSpeed and FSDP keep the optimizer in folders of their own, then it is not beside the others.
    """
    names = [*(["optimizer.pt"] if optimizer else []), "scheduler.pt", "rng_state.pth", "training_args.bin"]
    copy_real(" ".join(f"sft_lora/checkpoint-4/{name}" for name in names), folder)
    state = real_json("sft_lora/checkpoint-4/trainer_state.json")
    history = [entry for entry in state["log_history"] if entry["step"] <= step]
    changed = {"global_step": step, "max_steps": max(step, state["max_steps"]), "log_history": history}
    put(folder / "trainer_state.json", state | changed)


def records(folder: Path, of: str = "sft_lora") -> None:
    """What `save_metrics` and `save_state` leave in the root: real ones."""
    names = "all_results", "train_results", "eval_results", "trainer_state"
    copy_real(" ".join(f"{of}/{name}.json" for name in names), folder)


def zero3_state(folder: Path, *, step: int = 4) -> None:
    """What DeepSpeed's `save_checkpoint` adds under ZeRO-3: every rank's part, and the way back.

    Source: deepspeed/runtime/engine.py (`_get_zero_ckpt_name`, `_copy_recovery_script`).
    """
    for name in ("bf16_zero_pp_rank_0_mp_rank_00_optim_states", "zero_pp_rank_0_mp_rank_00_model_states"):
        write_torch(folder / f"global_step{step}" / f"{name}.pt", {"flat": ("F32", (64,))})
    put(folder / "latest", f"global_step{step}")
    put(folder / "zero_to_fp32.py", "# DeepSpeed copies its recovery script here.\n")


def fsdp_state(folder: Path, name: str) -> None:
    """A distributed checkpoint of two ranks; only its names matter, nobody here reads .distcp.

    Source: accelerate/utils/fsdp_utils.py (`save_fsdp_model`), torch.distributed.checkpoint.FileSystemWriter.
    """
    for file in ("__0_0.distcp", "__1_0.distcp", ".metadata"):
        put(folder / name / file, f"{name}/{file} of a sharded state dict".encode())


def card(folder: Path, *tags: str) -> None:
    """A model card as transformers' Trainer writes it, cut short."""
    lines = "".join(f"- {tag}\n" for tag in tags)
    put(folder / "README.md", f"---\nbase_model: {BASE}\ntags:\n{lines}---\n\n# {tags[0]} run\n")


def tensorboard(folder: Path) -> None:
    """An event file of TensorBoard by its name; nobody here reads it."""
    put(folder / EVENTS, b"\x18\0\0\0\0\0\0\0 brain.Event:2")


def plot(path: Path) -> None:
    """A PNG of one grey pixel."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\x80")),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in parts
    ]
    put(path, b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
