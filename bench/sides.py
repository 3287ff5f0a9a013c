"""The two sides: this agent's finalize, and the Hub's own command line, each at home in a fresh folder."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import BenchError, Cost, clean_env, python, run
from bench.hub import TOKEN, USER, hub_process

if TYPE_CHECKING:
    from collections.abc import Mapping

REPO_ID = f"{USER}/model"
IMPORT_CLIENT = "from huggingface_hub import HfApi; import hf_xet"
IMPORT_CLIENTS = f"{IMPORT_CLIENT}; from supabase import create_client"


def fresh_home(tmp: Path) -> Path:
    """A new empty folder for one side's caches and state."""
    return Path(tempfile.mkdtemp(dir=tmp, prefix="home-"))


def finalize(
    home: Path,
    endpoint: str,
    folder: Path,
    *,
    repo_id: str = REPO_ID,
    job: Mapping[str, str] | None = None,
) -> Cost:
    """Publish a folder with the agent; caches and state are kept in `home`, so a second call is a rerun.

    Args:
        home: for caches and state.
        endpoint: the Hub.
        folder: what to publish.
        repo_id: where to.
        job: the variables of a job database; without, the row is a local file.
    """
    env = clean_env(
        home,
        HF_TOKEN=TOKEN,
        HF_ENDPOINT=endpoint,
        HF_HOME=str(home / "hf"),
        HF_REPO_NAME=repo_id,
        OUTPUT_DIR=str(folder),
        AGENT_STATE_DIR=str(home / "state"),
        AGENT_LOG_FORMAT="json",
        **(job or {}),
    )
    return run(python("-m", "agent", "finalize", "--json"), env, cwd=home)


def hf_upload(home: Path, endpoint: str, folder: Path, *, repo_id: str = REPO_ID) -> Cost:
    """Upload a folder with `hf upload`, which creates the repo itself; its caches are kept in `home`."""
    env = clean_env(
        home,
        HF_TOKEN=TOKEN,
        HF_ENDPOINT=endpoint,
        HF_HOME=str(home / "hf"),
        HF_XET_CACHE=str(home / "xet"),
        HF_HUB_DISABLE_UPDATE_CHECK="1",  # it would ask a server outside
    )
    return run([_hf(), "upload", repo_id, str(folder)], env, cwd=home)


def import_client(home: Path, what: str = IMPORT_CLIENT) -> Cost:
    """Import the client library and its transport; nobody who talks to the Hub starts faster."""
    return run(python("-c", what), clean_env(home, HF_HOME=str(home / "hf")), cwd=home)


def first_finalize(tmp: Path, folder: Path, rate_mb_s: float | None) -> Cost:
    """Publish a folder with the agent, from nothing, to a Hub that holds nothing."""
    home = fresh_home(tmp)
    with hub_process(tmp, rate_mb_s) as endpoint:
        cost = finalize(home, endpoint, folder)
    shutil.rmtree(home)
    return cost


def first_hf_upload(tmp: Path, folder: Path, rate_mb_s: float | None) -> Cost:
    """Upload a folder with `hf upload`, from nothing, to a Hub that holds nothing."""
    home = fresh_home(tmp)
    with hub_process(tmp, rate_mb_s) as endpoint:
        cost = hf_upload(home, endpoint, folder)
    shutil.rmtree(home)
    return cost


def _hf() -> str:
    beside = Path(sys.executable).parent / "hf"
    found = str(beside) if beside.is_file() else shutil.which("hf")
    if found is None:
        raise BenchError("the command `hf` is not installed; it comes with huggingface_hub")
    return found
