"""How far a training is, told from inside it: `trainer.add_callback(AgentCallback())`.

This file is copied alone to where the training runs: it needs Python 3.9 and nothing but transformers,
4.4x to 5.x, and works without that as well. It holds no credentials and talks to nobody: it leaves small
files in a folder that `run` names, and `run` tells the row. A training without `run` is not reported.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import numbers
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class _Arguments(Protocol):
        """What we read of transformers' TrainingArguments."""

        output_dir: str
        train_batch_size: int
        gradient_accumulation_steps: int
        world_size: int

    class _State(Protocol):
        """What we read of transformers' TrainerState."""

        is_world_process_zero: bool
        global_step: int
        max_steps: int
        epoch: float | None
        num_train_epochs: int

    _Callback = object
else:
    try:
        from transformers import TrainerCallback as _Callback
    except Exception:  # noqa: BLE001 - a broken transformers is for the training to complain about
        _Callback = object

VARIABLE = "TRAINING_AGENT_REPORTS"
PROGRESS, CHECKPOINTS = "progress.json", "checkpoints.jsonl"
INTERVAL_S = 1.0
MOST_METRICS, LONGEST_NAME = 64, 64  # keeps the file below what its reader takes
_OF_THE_ROW = {"loss", "eval_loss", "learning_rate", "grad_norm"}
_GB = 1024**3  # as the memory of GPUs is counted


def _quietly(
    event: Callable[[AgentCallback, _Arguments, _State, dict[str, object]], None],
) -> Callable[..., None]:
    """Turn `event` into one that acts in the main process only and never raises into the training."""

    @functools.wraps(event)
    def handler(
        self: AgentCallback, args: _Arguments, state: _State, _control: object = None, **more: object
    ) -> None:
        try:
            if self._folder and state.is_world_process_zero:
                event(self, args, state, more)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training is worth more than its progress
            self._complain(error)

    return handler


class AgentCallback(_Callback):
    """Reports progress, metrics and complete checkpoints, and can neither stop nor slow the training.

    A write at most once a second, and one more for a checkpoint and at the end. What cannot be written is
    given up after one line on stderr.

    Args:
        clock: seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = os.environ.get(VARIABLE)
        self._clock = clock
        self._metrics: dict[str, float] = {}
        self._began: float | None = None
        self._first_step = 0
        self._written: float | None = None
        self._complained = False

    @_quietly
    def on_train_begin(self, args: _Arguments, state: _State, _more: dict[str, object]) -> None:
        """Start to count; a resumed training counts from the step that it resumes at."""
        self._metrics, self._began = {}, None
        self._report(args, state, always=True)

    @_quietly
    def on_step_end(self, args: _Arguments, state: _State, _more: dict[str, object]) -> None:
        """Report the step."""
        self._report(args, state)

    @_quietly
    def on_log(self, args: _Arguments, state: _State, more: dict[str, object]) -> None:
        """Keep the newest metrics; one that is not finite any more is not known any more."""
        logs = more.get("logs")
        for name, value in (logs if isinstance(logs, dict) else {}).items():
            if not isinstance(name, str) or len(name) > LONGEST_NAME:
                continue
            number = _finite(value)
            if number is None:
                self._metrics.pop(name, None)
            elif name in self._metrics or name in _OF_THE_ROW or len(self._metrics) < MOST_METRICS:
                self._metrics[name] = number
        self._report(args, state)

    @_quietly
    def on_save(self, args: _Arguments, state: _State, _more: dict[str, object]) -> None:
        """Tell that a checkpoint is complete: the trainer writes its trainer_state.json last, then calls us.

        In distributed training the other processes' random states may still follow; no weights do.
        """
        checkpoint = Path(args.output_dir).absolute() / f"checkpoint-{state.global_step}"
        if (checkpoint / "trainer_state.json").is_file():
            line = json.dumps({"step": int(state.global_step), "path": str(checkpoint)})
            with Path(self._folder or "", CHECKPOINTS).open("a", encoding="ascii") as lines:
                lines.write(f"\n{line}\n")  # a line before it may be torn
        self._report(args, state, always=True)

    @_quietly
    def on_train_end(self, args: _Arguments, state: _State, _more: dict[str, object]) -> None:
        """Report the last step as the end of training, which is not the end of the script.

        Scripts as TRL ships them save the model after this: only when the process has ended it is there.
        """
        self._report(args, state, always=True, ended=True)

    def _report(self, args: _Arguments, state: _State, *, always: bool = False, ended: bool = False) -> None:
        now = self._clock()
        if self._began is None:
            self._began, self._first_step = now, int(state.global_step)
        if not always and self._written is not None and now - self._written < INTERVAL_S:
            return
        self._written = now  # before it is tried: a write that fails is not tried at each step
        step, steps = int(state.global_step), int(state.max_steps)
        done, elapsed_s = step - self._first_step, now - self._began
        document = {
            "step": step,
            "max_steps": steps,
            "epoch": _finite(state.epoch),
            "num_epochs": _finite(state.num_train_epochs),
            "elapsed_s": elapsed_s,
            "remaining_s": elapsed_s / done * max(steps - step, 0) if done > 0 and steps > 0 else None,
            "samples_per_second": _samples(args, done) / elapsed_s if done > 0 and elapsed_s > 0 else None,
            "metrics": self._metrics,
            "ended": ended,
            **_gpu_memory(),
        }
        path = Path(self._folder or "", PROGRESS)
        temporary = path.with_name(f".{PROGRESS}.{os.getpid()}")
        temporary.write_text(json.dumps(document, allow_nan=False), encoding="ascii")
        temporary.replace(path)  # without fsync: it is a hint, and gone with the container anyway

    def _complain(self, error: Exception) -> None:
        if self._complained:
            return
        self._complained = True
        with contextlib.suppress(Exception):
            words = " ".join(str(error).split())[:200]
            sys.stderr.write(f"training agent: progress is not reported: {type(error).__name__}: {words}\n")


def _finite(value: object) -> float | None:
    """A plain or numpy number as a float, else None: to read a tensor would be to wait for the GPU."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _samples(args: _Arguments, steps: int) -> int:
    """How many samples so many steps took, each process having some of its own."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size * steps


def _gpu_memory() -> dict[str, float]:
    """The main process's share of its GPU, if torch is loaded and uses one; nothing is loaded for it."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    return {
        "gpu_memory_allocated_gb": cuda.memory_allocated() / _GB,
        "gpu_memory_reserved_gb": cuda.memory_reserved() / _GB,
    }
