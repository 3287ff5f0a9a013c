"""Real trainings under `run`: TRL on a tiny model against the embedded services, every claim looked at."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import FIXTURES

pytestmark = pytest.mark.train

HERE = Path(__file__).parent
STEPS, SAVED = 6, (2, 4, 6)
# The real command, with a quicker pulse.
AGENT = "from agent.jobs import heartbeat; heartbeat.INTERVAL_S = 0.2; from agent.cli import main; main()"
NOT_PUBLISHED = ("checkpoint-", "training_args.bin")


class Watched:
    """One training under `run` whose row is looked at all the while; a checkpoint waits to be seen there."""

    def __init__(self, app, job, pace):
        self.rows = []
        self._app, self._job, self._pace = app, job, pace
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._over.is_set():
            row = self._app.row(self._job.id)
            if not self.rows or row != self.rows[-1]:
                self.rows.append(row)
            for step in SAVED:
                if (row["current_step"] or 0) >= step:
                    (self._pace / str(step)).touch()
            time.sleep(0.02)

    def run(self, command, environ):
        self._thread.start()
        try:
            return subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=180, check=False
            )
        finally:
            self._over.set()
            for step in SAVED:
                (self._pace / str(step)).touch()
            self._thread.join()


@pytest.fixture
def trained(pod, app, launcher, trainer_python, tmp_path):
    """Run one of the scripts of this folder as a pod does, and return all there is to see of it."""

    def run(script, **more):
        job, pace, folder = app.add_job(status="pending"), tmp_path / "pace", tmp_path / "out"
        pace.mkdir()
        answer = tmp_path / "answer.json"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(launcher),
            "PACE": str(pace),
            "BASE": str(FIXTURES / "base"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "AGENT_LOG_FORMAT": "json",
        }
        environ |= pod.environ(folder) | app.environ(job) | more
        command = [sys.executable, "-I", "-c", AGENT, "run", "--json-file", str(answer), "--"]
        watched = Watched(app, job, pace)
        done = watched.run([*command, str(trainer_python), str(HERE / script)], environ)
        said = json.loads(answer.read_text()) if answer.exists() else None
        return done, said, watched.rows, app.row(job.id), folder

    return run


def published(hub, repo_id):
    return set(hub.repo(repo_id).resolve("main").tree)


@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_a_real_training_ends_completed_with_its_model_published(method, trained, hub):
    done, said, rows, row, folder = trained(f"train_{method}.py")
    assert done.returncode == 0, done.stderr
    assert "train_loss" in done.stdout
    assert (said["result"], said["published"], said["child_exit"], said["error"]) == (
        "completed",
        True,
        0,
        None,
    )
    assert (row["status"], row["progress"], row["model_url"]) == (
        "completed",
        100,
        f"{hub.endpoint}/ada/model",
    )

    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    of_model = {name for name in files if not name.startswith(NOT_PUBLISHED)}
    assert {"model.safetensors" if method == "sft" else "adapter_model.safetensors"} < of_model
    assert of_model <= published(hub, "ada/model")
    rewritten = {"README.md", "adapter_config.json"}  # they named the base by its path on this machine
    for name in of_model - rewritten:
        assert hub.read("ada/model", name) == (folder / name).read_bytes(), name
    assert f"- {method}\n" in hub.read("ada/model", "README.md").decode()

    states = [seen["status"] for seen in rows]
    assert [state for i, state in enumerate(states) if i == 0 or state != states[i - 1]] == [
        "pending",
        "running",
        "completed",
    ]
    progress = [seen["progress"] or 0 for seen in rows]
    assert progress == sorted(progress)
    assert {33.33, 66.67, 99.0, 100.0} <= set(progress)
    assert all(seen["progress"] <= 99 for seen in rows if seen["status"] == "running" and seen["progress"])

    assert (row["current_step"], row["total_steps"]) == (STEPS, STEPS)
    for name in ("loss", "eval_loss", "learning_rate", "grad_norm", "samples_per_second", "current_epoch"):
        assert math.isfinite(row[name]), name
    assert row["loss"] > 0
    assert row["remaining_seconds"] == 0
    assert (row["total_epochs"] or 0) >= 1
    assert row["elapsed_seconds"] is not None
    assert row["gpu_memory_allocated_gb"] is None
