"""`python -m bench.trainer HOW MODEL GATE NOTES [SECONDS]`: a stand-in for a training, under `run`.

MODEL is a folder with a whole model and the log of a training that came to its end. HOW is one of

    stable    write the final files, wait, exit: what a training does that evaluates in the end
    trl       write a whole checkpoint, wait, write the final files, the same bytes in new ones, and exit
    busy      write a whole checkpoint, wait, keep all cores busy for SECONDS, and exit

To wait is to look for a file GATE. Into the JSON file NOTES it writes, as its last act, what time it was
then, and how many steps it made while it was busy.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.folders import LOG, LOGGED_STEPS

_LOOK_EVERY_S = 0.02
_SIDE = 384  # of the matrices of a step


def main() -> None:
    """Train."""
    how, model, gate, notes, *rest = sys.argv[1:]
    output, steps = Path(os.environ["OUTPUT_DIR"]), 0
    if how == "stable":
        _save(Path(model), output)
        shutil.copyfile(Path(model) / LOG, output / LOG)
        _await(Path(gate))
    else:
        checkpoint = output / f"checkpoint-{LOGGED_STEPS}"
        _save(Path(model), checkpoint)
        shutil.copyfile(Path(model) / LOG, checkpoint / LOG)  # last, as transformers does
        _await(Path(gate))
        if how == "busy":
            steps = _work(float(rest[0]))
        else:
            _save(Path(model), output)
    half = Path(notes).with_suffix(".half")
    half.write_text(json.dumps({"ended_at": time.time(), "steps": steps}))
    half.replace(notes)


def _save(model: Path, folder: Path) -> None:
    """Write the model's files anew, all but the log."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.name != LOG:
            shutil.copyfile(path, folder / path.name)


def _await(gate: Path) -> None:
    while not gate.exists():
        time.sleep(_LOOK_EVERY_S)


def _work(seconds: float) -> int:
    """Keep every core busy, and return how many steps they made."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        return sum(pool.map(_steps, [seconds] * cores))


def _steps(seconds: float) -> int:
    import numpy as np

    weights = np.random.default_rng(1).standard_normal((_SIDE, _SIDE), dtype=np.float32)
    state, steps, over = weights, 0, time.perf_counter() + seconds
    while time.perf_counter() < over:
        state = np.tanh(weights @ state)
        steps += 1
    return steps


if __name__ == "__main__":
    main()
