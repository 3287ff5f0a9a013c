"""What the callback leaves for `run`, and that nothing it meets reaches the training."""

from __future__ import annotations

import ast
import itertools
import json
import math
import os
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import callback
from agent.callback import AgentCallback
from agent.pod import reports
from agent.pod.reports import Reports
from agent.pod_config import UNDER_RUN
from tests.conftest import ROOT

SOURCE = ROOT / "agent" / "callback.py"


class Training:
    """What transformers' Trainer does with a callback, without a model."""

    def __init__(self, output_dir, clock, *, step=0, main=True, callback_class=AgentCallback):
        self.args = SimpleNamespace(
            output_dir=str(output_dir), train_batch_size=4, gradient_accumulation_steps=2, world_size=3
        )
        self.state = SimpleNamespace(
            is_world_process_zero=main, global_step=step, max_steps=200, epoch=step / 100, num_train_epochs=2
        )
        self.clock = clock
        self.callback = callback_class(clock)

    def tell(self, event, **more):
        control = object()
        answer = getattr(self.callback, event)(self.args, self.state, control, model=None, **more)
        assert answer is None, "the trainer's control is not the callback's to change"

    def step(self, seconds=1.0, count=1):
        for _ in range(count):
            self.clock.sleep(seconds)
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / 100
            self.tell("on_step_end")

    def save(self, *, whole=True):
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / "trainer_state.json").write_text("{}")
        self.tell("on_save")
        return folder


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The folder that `run` names."""
    path = tmp_path / "reports"
    path.mkdir()
    monkeypatch.setenv(callback.VARIABLE, str(path))
    return path


@pytest.fixture
def training(told, tmp_path, clock):
    return Training(tmp_path / "out", clock)


def progress(told):
    return json.loads((told / "progress.json").read_text())


def test_it_says_where_the_training_is(training, told):
    training.tell("on_train_begin")
    assert progress(told)["step"] == 0
    training.step(count=50)
    training.tell("on_log", logs={"loss": 0.5, "learning_rate": 1e-5, "rewards/chosen": -0.25, "epoch": 0.5})
    training.step()
    assert progress(told) == {
        "step": 51,
        "max_steps": 200,
        "epoch": 0.51,
        "num_epochs": 2.0,
        "elapsed_s": 51.0,
        "remaining_s": 149.0,
        "samples_per_second": 24.0,
        "metrics": {"loss": 0.5, "learning_rate": 1e-5, "rewards/chosen": -0.25, "epoch": 0.5},
        "ended": False,
    }
    assert sorted(path.name for path in told.iterdir()) == ["progress.json"]


def test_what_it_writes_is_what_run_reads(training, told):
    training.tell("on_train_begin")
    training.step(count=50)
    training.tell("on_log", logs={"loss": 0.5, "grad_norm": np.float32(1.5), "eval_loss": np.float64(0.25)})
    kept = training.save()
    seen = Reports(told)
    assert seen.latest().as_columns() == {
        "progress": 25.0,
        "current_step": 50,
        "current_epoch": 0.5,
        "total_steps": 200,
        "total_epochs": 2,
        "loss": 0.5,
        "eval_loss": 0.25,
        "grad_norm": 1.5,
        "samples_per_second": 24.0,
        "elapsed_seconds": 50,
        "remaining_seconds": 150,
    }
    assert seen.checkpoints() == [kept]
    assert (callback.VARIABLE, callback.PROGRESS, callback.CHECKPOINTS) == (
        UNDER_RUN,
        reports.PROGRESS,
        reports.CHECKPOINTS,
    )


def test_a_resumed_training_is_as_fast_as_it_is_now(told, tmp_path, clock):
    training = Training(tmp_path, clock, step=100)
    training.tell("on_train_begin")
    assert progress(told)["remaining_s"] is None
    training.step(seconds=2.0, count=10)
    found = progress(told)
    assert (found["elapsed_s"], found["remaining_s"], found["samples_per_second"]) == (20.0, 180.0, 12.0)


def test_a_second_training_of_the_same_trainer_counts_anew(training, told):
    training.tell("on_train_begin")
    training.step(count=3)
    training.tell("on_log", logs={"loss": 9.0})
    training.tell("on_train_end")
    training.state.global_step = 0
    training.tell("on_train_begin")
    found = progress(told)
    assert (found["step"], found["elapsed_s"], found["metrics"], found["ended"]) == (0, 0.0, {}, False)


def test_it_writes_once_a_second_at_most(training, told, monkeypatch):
    writes = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, to: writes.append(training.clock()) or replace(self, to)
    )
    training.tell("on_train_begin")
    training.step(seconds=0.03, count=400)
    assert 11 <= len(writes) <= 13
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(writes))
    assert progress(told)["step"] > 360


def test_the_end_and_a_checkpoint_are_told_at_once(training, told):
    training.tell("on_train_begin")
    training.step(seconds=0.1)
    assert progress(told)["step"] == 0
    training.save()
    assert progress(told)["step"] == 1
    training.step(seconds=0.1)
    training.tell("on_log", logs={"train_loss": 0.75})
    assert progress(told)["step"] == 1
    training.tell("on_train_end")
    found = progress(told)
    assert (found["step"], found["ended"], found["metrics"]) == (2, True, {"train_loss": 0.75})


def test_a_checkpoint_is_told_when_it_is_whole(training, told):
    training.step()
    training.save(whole=False)
    training.tell("on_save")
    training.state.global_step = 7  # nothing was saved there
    training.tell("on_save")
    assert Reports(told).checkpoints() == []
    assert not (told / "checkpoints.jsonl").exists()
    training.step()
    whole = training.save()
    assert Reports(told).checkpoints() == [whole]
    assert {"step": 8, "path": str(whole)} in [
        json.loads(line) for line in (told / "checkpoints.jsonl").read_text().splitlines() if line
    ]


def test_a_relative_folder_is_told_as_the_training_sees_it(told, tmp_path, clock, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = Training("out", clock)
    training.step()
    training.save()
    assert Reports(told).checkpoints() == [tmp_path / "out" / "checkpoint-1"]


def test_a_line_that_was_torn_takes_no_other_with_it(training, told):
    (told / "checkpoints.jsonl").write_text('{"step": 1, "pa')
    training.step(count=2)
    assert Reports(told).checkpoints() == []
    assert [training.save()] == Reports(told).checkpoints()


def test_without_run_nothing_is_written_anywhere(training, tmp_path, clock, monkeypatch):
    for value in (None, ""):
        monkeypatch.delenv(callback.VARIABLE)
        if value is not None:
            monkeypatch.setenv(callback.VARIABLE, value)
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        alone = Training(tmp_path / "out", clock)
        for event in ("on_train_begin", "on_step_end", "on_log", "on_save", "on_train_end"):
            alone.tell(event)
        assert sorted(tmp_path.rglob("*")) == before
        monkeypatch.setenv(callback.VARIABLE, "x")


def test_only_the_main_process_writes(told, tmp_path, clock):
    other = Training(tmp_path / "out", clock, main=False)
    other.tell("on_train_begin")
    other.step(count=3)
    other.save()
    other.tell("on_train_end")
    assert list(told.iterdir()) == []


def test_a_metric_that_is_no_finite_number_is_not_told(training, told):
    class Tensor:
        def __float__(self):
            raise AssertionError("reading a tensor waits for the GPU")

        __index__ = __int__ = item = __float__

    logs = {"loss": 0.5, "grad_norm": 2.0, "n": np.int64(3)}
    training.tell("on_log", logs=logs)
    strange = {
        "loss": math.nan,
        "tensor": Tensor(),
        "flag": True,
        "text": "0.5",
        "none": None,
        "many": [1.0],
        "large": 10**400,
        "exact": Decimal(1),
        "inf": -math.inf,
        7: 1.0,
        "x" * 65: 1.0,
        "still": 4,
    }
    training.step()
    training.tell("on_log", logs=strange)
    training.step()
    assert progress(told)["metrics"] == {"grad_norm": 2.0, "n": 3.0, "still": 4.0}


def test_a_thousand_metrics_leave_room_for_those_of_the_row(training, told):
    training.tell("on_log", logs={f"{chr(0x1F600 + n)}" * 64: 1.1234567890123456e-300 for n in range(1000)})
    training.tell("on_log", logs={"loss": 0.5, "eval_loss": 1.5})
    training.step()
    assert len(progress(told)["metrics"]) == callback.MOST_METRICS + 2
    assert Reports(told).latest().loss == 0.5
    assert Reports(told).latest().eval_loss == 1.5


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


def broken(kind, training, told, monkeypatch):
    """Break what the callback stands on."""
    if kind == "folder is gone":
        told.rmdir()
    elif kind == "folder is a file":
        told.rmdir()
        told.touch()
    elif kind == "no step":
        training.state.global_step = None
    elif kind == "no state":
        training.state = None
    elif kind == "no arguments":
        training.args = None
        training.state.global_step = 5
    elif kind == "clock":
        training.callback._clock = lambda: 1 / 0
    elif kind == "GPU":
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=None)))
    else:
        error = {"disk is full": OSError(28, "No space left on device\n" + "x" * 999)}.get(
            kind, UnspeakableError()
        )

        def fail(*_args, **_more):
            raise error

        monkeypatch.setattr(Path, "write_text", fail)


@pytest.mark.parametrize(
    "kind",
    [
        "folder is gone", "folder is a file", "no step", "no state", "no arguments", "clock", "GPU",
        "disk is full", "unspeakable",
    ],
)  # fmt: skip
def test_whatever_breaks_the_training_goes_on_with_one_line(kind, training, told, monkeypatch, capsys):
    training.tell("on_train_begin")
    with monkeypatch.context() as patch:
        (told / "progress.json").unlink()
        broken(kind, training, told, patch)
        for _ in range(3):
            training.clock.sleep(2)
            for event in ("on_step_end", "on_log", "on_save", "on_train_end"):
                training.tell(event, logs={"loss": 1.0})
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == (0 if kind == "unspeakable" else 1)
    assert len(said.err) < 300


def test_a_closed_stderr_does_not_reach_the_training_either(training, told, monkeypatch):
    told.rmdir()
    for stream in (None, open(os.devnull)):  # noqa: PTH123, SIM115
        with monkeypatch.context() as patch:
            if stream:
                stream.close()
            patch.setattr(sys, "stderr", stream)
            training.callback._complained = False
            training.clock.sleep(2)
            training.tell("on_step_end")
            assert training.callback._complained


def test_a_disk_that_is_free_again_is_written_again(training, told, monkeypatch):
    training.tell("on_train_begin")
    with monkeypatch.context() as patch:
        broken("disk is full", training, told, patch)
        training.step(count=5)
    assert progress(told)["step"] == 0
    training.step()
    assert progress(told)["step"] == 6


def test_a_write_that_fails_is_not_tried_at_each_step(training, told, monkeypatch):
    tried = []
    monkeypatch.setattr(Path, "write_text", lambda *_args, **_more: tried.append(1) / 0)
    training.step(seconds=0.01, count=250)
    assert len(tried) == 3


def test_a_signal_passes(training, told, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.tell("on_train_begin")


def test_the_memory_of_the_gpu_is_told_where_one_is_in_use(training, told, monkeypatch):
    cuda = SimpleNamespace(
        is_initialized=lambda: True, memory_allocated=lambda: 3 * 2**30, memory_reserved=lambda: 2**29
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    training.step()
    found = Reports(told).latest()
    assert (found.gpu_memory_allocated_gb, found.gpu_memory_reserved_gb) == (3.0, 0.5)
    cuda.is_initialized = lambda: False
    training.step()
    assert "gpu_memory_allocated_gb" not in Reports(told).latest().as_columns()


def test_torch_is_never_imported_for_it(training, told, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [])
    training.step()
    assert progress(told)["step"] == 1
    assert "torch" not in sys.modules


NAMES = st.one_of(
    st.sampled_from(["loss", "eval_loss", "epoch"]), st.text(max_size=70), st.integers(), st.none()
)
VALUES = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=5), st.binary(max_size=5),
    st.decimals(), st.fractions(), st.complex_numbers(), st.lists(st.floats(), max_size=2),
    st.builds(np.float32, st.floats(width=32)), st.builds(object),
)  # fmt: skip


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(logs=st.lists(st.dictionaries(NAMES, VALUES, max_size=80), max_size=3), steps=VALUES, epochs=VALUES)
def test_no_log_is_too_strange_to_live_with(logs, steps, epochs, training, told):
    training.callback._metrics = {}
    training.state.max_steps = 10
    for log in logs:
        training.tell("on_log", logs=log)
    training.step()
    found = Reports(told).latest()
    assert found is not None
    assert json.dumps(found.as_columns(), allow_nan=False)
    assert (told / "progress.json").stat().st_size < reports.LARGEST_BYTES
    training.state.max_steps, training.state.num_train_epochs, training.state.epoch = steps, epochs, epochs
    training.step()
    training.tell("on_log", logs=[logs])


def test_it_is_python_3_9_and_needs_nothing_but_transformers():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    packages = {name.partition(".")[0] for name in imported}
    assert packages - set(sys.stdlib_module_names) == {"transformers"}


def test_it_is_a_callback_of_transformers_where_that_is_there(told, tmp_path, clock, monkeypatch):
    transformers = ModuleType("transformers")
    transformers.TrainerCallback = type("TrainerCallback", (), {"on_epoch_end": lambda *_: "theirs"})
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    copied = ModuleType("copied")
    exec(compile(SOURCE.read_text(), str(SOURCE), "exec"), copied.__dict__)
    assert issubclass(copied.AgentCallback, transformers.TrainerCallback)
    training = Training(tmp_path / "out", clock, callback_class=copied.AgentCallback)
    training.step()
    assert progress(told)["step"] == 1
    assert training.callback.on_epoch_end() == "theirs"


def test_a_broken_transformers_does_not_break_the_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    copied = ModuleType("copied")
    exec(compile(SOURCE.read_text(), str(SOURCE), "exec"), copied.__dict__)
    assert copied.AgentCallback.__bases__ == (object,)
