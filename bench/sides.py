"""The sides: this agent's finalize and what it is compared with, each at home in a folder of its own."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.child import BenchError, Cost, clean_env, python, run
from bench.hub import TOKEN, USER, hub_process
from bench.jobs import begin, completed_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.sandbox.jobs_app import JobsApp

FINALIZE, HF_UPLOAD, UPLOAD_FOLDER, PLAIN = "finalize", "hf upload", "upload_folder", "plain script"
REPO_ID = f"{USER}/model"
IMPORT_CLIENT = "from huggingface_hub import HfApi; import hf_xet"
IMPORT_CLIENTS = f"{IMPORT_CLIENT}; from supabase import create_client"


class Publish(Protocol):
    """One side, publishing a folder to a repo of a Hub."""

    def __call__(
        self,
        home: Path,
        endpoint: str,
        folder: Path,
        *,
        repo_id: str = REPO_ID,
        job: Mapping[str, str] | None = None,
    ) -> Cost:
        """Publish; caches and state are kept in `home`, so a second call is a rerun.

        Args:
            home: for caches and state.
            endpoint: the Hub.
            folder: what to publish.
            repo_id: where to.
            job: the variables of a job database; without, there is no row to tell.
        """


def fresh_home(tmp: Path) -> Path:
    """A new empty folder for one side's caches and state."""
    return Path(tempfile.mkdtemp(dir=tmp, prefix="home-"))


def environ(home: Path, endpoint: str, **more: str) -> dict[str, str]:
    """What every side is told: the Hub, and where its library may keep things."""
    return clean_env(home, HF_TOKEN=TOKEN, HF_ENDPOINT=endpoint, HF_HOME=str(home / "hf"), **more)


def agent_environ(
    home: Path, endpoint: str, folder: Path, *, repo_id: str = REPO_ID, job: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What the agent is told in a pod."""
    return environ(
        home,
        endpoint,
        HF_REPO_NAME=repo_id,
        OUTPUT_DIR=str(folder),
        AGENT_STATE_DIR=str(home / "state"),
        AGENT_LOG_FORMAT="json",
        **(job or {}),
    )


def finalize(
    home: Path,
    endpoint: str,
    folder: Path,
    *,
    repo_id: str = REPO_ID,
    job: Mapping[str, str] | None = None,
) -> Cost:
    """Publish a folder with the agent; without a job database the row is a local file."""
    env = agent_environ(home, endpoint, folder, repo_id=repo_id, job=job)
    return run(FINALIZE_COMMAND, env, cwd=home)


FINALIZE_COMMAND = python("-m", "agent", "finalize", "--json")


def hf_upload(
    home: Path,
    endpoint: str,
    folder: Path,
    *,
    repo_id: str = REPO_ID,
    job: Mapping[str, str] | None = None,
) -> Cost:
    """Upload a folder with `hf upload`, which creates the repo itself and knows of no row."""
    del job
    command, env = hf_upload_command(home, endpoint, folder, repo_id)
    return run(command, env, cwd=home)


def hf_upload_command(
    home: Path, endpoint: str, folder: Path, repo_id: str = REPO_ID
) -> tuple[list[str], dict[str, str]]:
    """The command line of `hf upload` and its environment."""
    update_check = {"HF_HUB_DISABLE_UPDATE_CHECK": "1"}  # it would ask a server outside
    env = environ(home, endpoint, HF_XET_CACHE=str(home / "xet"), **update_check)
    return [_hf(), "upload", repo_id, str(folder)], env


def plain_script(
    home: Path,
    endpoint: str,
    folder: Path,
    *,
    repo_id: str = REPO_ID,
    job: Mapping[str, str] | None = None,
) -> Cost:
    """Publish a folder with `create_repo` and `upload_folder`; with a job, tell its row."""
    env = environ(home, endpoint, HF_XET_CACHE=str(home / "xet"), **(job or {}))
    return run(python("-m", "bench.plain", str(folder), repo_id), env, cwd=home)


def import_client(home: Path, what: str = IMPORT_CLIENT) -> Cost:
    """Import the client library and its transport; nobody who talks to the Hub starts faster."""
    return run(python("-c", what), clean_env(home, HF_HOME=str(home / "hf")), cwd=home)


def first(
    publish: Publish, tmp: Path, folder: Path, rate_mb_s: float | None, *, app: JobsApp | None = None
) -> Cost:
    """Publish a folder from nothing, to a Hub that holds nothing; with `app`, a row is told and must hear.

    Raises:
        BenchError: the row does not say that the job is completed.
    """
    home = fresh_home(tmp)
    with hub_process(tmp, rate_mb_s) as hub:
        job = begin(app, hub.endpoint) if app else None
        cost = publish(home, hub.endpoint, folder, job=job)
        if app and job:
            completed_at(app, job)
    shutil.rmtree(home)
    return cost


def _hf() -> str:
    beside = Path(sys.executable).parent / "hf"
    found = str(beside) if beside.is_file() else shutil.which("hf")
    if found is None:
        raise BenchError("the command `hf` is not installed; it comes with huggingface_hub")
    return found
