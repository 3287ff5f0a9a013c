"""What huggingface_hub and hf_xet read from the environment at import, set right before they are.

Source: both libraries freeze these variables when they are first imported.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

_CLEARED = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER")

# hf_xet's own retries stay well inside our patience: after a few quick ones we decide what to do next.
# Two xorbs of 64 MB in flight, each noted in the cache at once: what a kill loses is three at most.
# One file is read at a time, in small steps: every open one holds an unfinished xorb in memory.
_XET = {
    "HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_MAX_COUNT": "1",
    "HF_XET_CLIENT_AC_INITIAL_UPLOAD_CONCURRENCY": "2",
    "HF_XET_CLIENT_AC_MAX_UPLOAD_CONCURRENCY": "2",
    "HF_XET_DATA_MAX_CONCURRENT_FILE_INGESTION": "1",
    "HF_XET_DATA_INGESTION_BLOCK_SIZE": "1mb",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "5",
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "1000ms",
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "60s",
    "HF_XET_TELEMETRY_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def prepare(environ: MutableMapping[str, str], state_dir: Path) -> list[str]:
    """Make the process fit for uploading; a value the user set for hf_xet itself is kept.

    Args:
        environ: the process's environment, changed in place.
        state_dir: hf_xet's cache of what was already uploaded is kept below it.

    Returns:
        One sentence for each variable that had to be cleared.
    """
    warnings = [
        f"{name} is set; cleared it, because publishing needs the network"
        for name in _CLEARED
        if environ.pop(name, "").strip().lower() not in {"", "0", "false", "no", "off"}
    ]
    # Trades memory for speed on large hosts; the memory belongs to the training that may still run.
    environ.pop("HF_XET_HIGH_PERFORMANCE", None)
    for name, value in {**_XET, "HF_XET_CACHE": _cache(state_dir)}.items():
        environ[name] = environ.get(name) or value
    return warnings


def fresh_cache(environ: MutableMapping[str, str], state_dir: Path) -> None:
    """Let hf_xet begin with an empty cache of ours; a cache that somebody else keeps is left to them."""
    shutil.rmtree(state_dir / "xet", ignore_errors=True)
    environ["HF_XET_CACHE"] = _cache(state_dir)


def _cache(state_dir: Path) -> str:
    """A folder hf_xet can write to: without one it neither uploads nor keeps its log off stdout."""
    cache = state_dir / "xet"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.mkdtemp(prefix="training-agent-xet-")
    return str(cache)
