"""The environment that the real trainings run in, as a pod has one of its own beside ours."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "training-agent" / "tests-train"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make it before the first test: what a test may take is limited, and this takes a minute or more."""
    if not session.config.option.collectonly and any(HERE in item.path.parents for item in session.items):
        _make_environment()


def _make_environment() -> None:
    requirements = HERE / "requirements.txt"
    wanted = f"{sys.version}\n{requirements.read_text()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = CACHE / "installed"
        if installed.exists() and installed.read_text() == wanted:
            return
        shutil.rmtree(CACHE / "venv", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
        pip = [CACHE / "venv" / "bin" / "python", "-m", "pip", "install", "-qq"]
        subprocess.run([*pip, "--disable-pip-version-check", "-r", requirements], check=True)
        installed.write_text(wanted)


@pytest.fixture(scope="session")
def trainer_python() -> Path:
    """An interpreter that holds TRL and nothing of the agent."""
    return CACHE / "venv" / "bin" / "python"


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """The folder that makes `agent.callback` importable where the training runs, with nothing else in it."""
    folder = tmp_path / "launcher"
    (folder / "agent").mkdir(parents=True)
    shutil.copy(HERE.parent.parent / "agent" / "callback.py", folder / "agent")
    return folder
