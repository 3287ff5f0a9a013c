"""`merged_model/`: whether a merge was carried through, told by which files are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.artifact.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

NAME = "merged_model"
_LARGEST_INDEX_BYTES = 100_000_000


def flaw_of_merge(folder: Path) -> str | None:
    """Why this is no whole merged model: config, weights or a shard is missing; None if all is there.

    What is in the files is not looked at here: a merge that is all there but damaged is refused later,
    not passed over.
    """
    try:
        if not (folder / "config.json").is_file():
            return "config.json is missing"
        for weights in ("model.safetensors", "pytorch_model.bin"):
            index = folder / f"{weights}.index.json"
            if index.is_file():
                return _flaw_of_shards(folder, index)
            if (folder / weights).is_file():
                return None
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "weights are missing"


def _flaw_of_shards(folder: Path, index: Path) -> str | None:
    try:
        shards = set(read_json(index, _LARGEST_INDEX_BYTES)["weight_map"].values())
        missing = sorted(name for name in shards if not (folder / name).is_file())
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"{index.name} is damaged"
    if not shards:
        return f"{index.name} names no shards"
    return f"{missing[0]} is missing" if missing else None
