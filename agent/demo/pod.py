"""The pod: the real command in a process of its own, with the environment the platform gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sandbox.hub import Hub
    from agent.sandbox.jobs_app import JobsApp, JobSecret

TOKEN = "hf_demo_token_of_ada"  # noqa: S105 - of an embedded Hub that ends with the demo
REPO = "ada/fine-tuned-model"
_PATIENCE_S = 20


def pod_environ(hub: Hub, app: JobsApp, job: JobSecret, folder: Path, state_dir: Path) -> dict[str, str]:
    """The environment that a pod would have."""
    return app.environ(job) | {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": hub.endpoint,
        "HF_REPO_NAME": REPO,
        "OUTPUT_DIR": str(folder),
        "AGENT_STATE_DIR": str(state_dir),
        "AGENT_LOG_FORMAT": "console",
    }


def finalize(pod: dict[str, str]) -> tuple[dict[str, Any], int]:
    """Run the real command in a process of its own; a Ctrl-C ends it before it ends us."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TERM", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "agent", "finalize", "--json"]
    begun = time.monotonic()
    with _started(command, kept | pod) as process:
        try:
            out, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait(_PATIENCE_S)
            raise
    outcome: dict[str, Any] = json.loads(out) if out.strip() else {}
    return outcome | {"wall_s": round(time.monotonic() - begun, 2)}, process.returncode


def _started(command: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process; a Ctrl-C while it starts waits until there is somebody to end it."""
    stopped: list[int] = []
    before = signal.signal(signal.SIGINT, lambda signum, _: stopped.append(signum))
    try:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped:
        process.terminate()
        process.communicate(timeout=_PATIENCE_S)
        raise KeyboardInterrupt
    return process
