"""What it takes to check a model that is big, and a folder that is full, beside walking through them."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import BenchError, clean_env, python, run
from bench.cost import charge
from bench.folders import MEGA
from bench.measure import Row, in_turns
from bench.sides import fresh_home
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from bench.child import Cost
    from bench.settings import Settings

SHARDS, SHARD_BYTES = 20, 500 * MEGA
FOLDERS, FILES_EACH, FILE_BYTES = 100, 1000, 1000
_NAMES = ("check", "walk and stat")
_MOST_S_BIG, _MOST_MB_BIG, _MOST_S_FULL = 3, 150, 10
_PUBLISHABLE, _REFUSED = 0, 11
_MATRICES, _SIDE = 14, 4096  # of one shard, in bfloat16
_ITEM_BYTES = {"BF16": 2, "F32": 4}
_CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}
_LAST_BYTES = 2000
_WALK = """
import os, sys
for at, _, names in os.walk(sys.argv[1]):
    for name in names:
        os.stat(os.path.join(at, name))
"""


def check(settings: Settings) -> Iterator[Row]:
    """A big model and a full folder, checked; both also walked through, which nobody can do without."""
    with _folder(settings.tmp, _big_model) as folder:
        pairs = _measure(settings.tmp, folder, {_PUBLISHABLE}, settings.short_runs)
    size = f"{SHARDS * SHARD_BYTES / 1e9:g} GB in {SHARDS} shards"
    yield charge(pairs, "wall_s", "check", size, _NAMES, target=Target(most=_MOST_S_BIG))
    yield charge(pairs, "peak_mb", "check", "its peak memory", _NAMES, target=Target(most=_MOST_MB_BIG))
    with _folder(settings.tmp, _full_folder) as folder:
        # More files than one commit of the Hub can hold: to be told so is an answer too.
        pairs = _measure(settings.tmp, folder, {_PUBLISHABLE, _REFUSED}, settings.runs)
    full = f"{FOLDERS * FILES_EACH:,} small files"
    yield charge(pairs, "wall_s", "check", full, _NAMES, target=Target(most=_MOST_S_FULL))


def _measure(tmp: Path, folder: Path, accepted: Collection[int], runs: int) -> list[tuple[Cost, ...]]:
    home = fresh_home(tmp)
    env = clean_env(home, AGENT_STATE_DIR=str(home / "state"), HF_HOME=str(home / "hf"))
    ours = python("-m", "agent", "check", str(folder), "--json")
    exit_code = _answer(ours, env, home, accepted)
    walk = partial(run, python("-c", _WALK, str(folder)), env, cwd=home)
    walk()
    pairs = in_turns(runs, partial(run, ours, env, cwd=home, expect=exit_code), walk)
    shutil.rmtree(home)
    return pairs


def _answer(command: list[str], env: dict[str, str], home: Path, accepted: Collection[int]) -> int:
    """Run once without measuring, so that caches are warm, and return the exit code.

    Raises:
        BenchError: the exit code is not accepted, or stdout is not one JSON object.
    """
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, check=False)
    try:
        understood = isinstance(json.loads(done.stdout), dict)
    except ValueError:
        understood = False
    if done.returncode in accepted and understood:
        return done.returncode
    said = "one JSON object" if understood else "no JSON object"
    words = (done.stdout + done.stderr)[-_LAST_BYTES:].decode(errors="replace")
    raise BenchError(f"{' '.join(command)} ended with {done.returncode} and {said} on stdout:\n{words}")


@contextmanager
def _folder(tmp: Path, fill: Callable[[Path], None]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=tmp, prefix="check-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(_CONFIG))
        fill(folder)
        yield folder


def _big_model(folder: Path) -> None:
    """Shards with whole headers and holes for data: as long as real ones, and next to nothing on disk."""
    weight_map: dict[str, str] = {}
    for number in range(1, SHARDS + 1):
        name = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        tensors = {
            f"model.layers.{number}.{matrix}.weight": ("BF16", [_SIDE, _SIDE]) for matrix in range(_MATRICES)
        }
        rest = SHARD_BYTES - _MATRICES * _SIDE * _SIDE * _ITEM_BYTES["BF16"]
        tensors[f"model.layers.{number}.norm.weight"] = ("F32", [rest // _ITEM_BYTES["F32"]])
        header = _header(tensors)
        (folder / name).write_bytes(header)
        os.truncate(folder / name, len(header) + SHARD_BYTES)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": SHARDS * SHARD_BYTES}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _full_folder(folder: Path) -> None:
    """A tiny model, and far too many files of text."""
    noise = random.Random(1)
    (folder / "model.safetensors").write_bytes(_header({"weight": ("F32", [1])}) + struct.pack("<f", 0.5))
    for number in range(FOLDERS):
        texts = folder / f"texts-{number:03}"
        texts.mkdir()
        for file in range(FILES_EACH):
            words = "".join(noise.choices("etaoin shrdlu\n", k=FILE_BYTES))
            (texts / f"{file:04}.txt").write_text(words)


def _header(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    """The head of a safetensors file: the length of its JSON, then the JSON."""
    described, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + _ITEM_BYTES[dtype] * prod(shape)
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
