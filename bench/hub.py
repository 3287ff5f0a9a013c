"""The embedded Hub as a process of its own, so that neither side pays for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import BenchError, clean_env, python

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, TOKEN = "ada", "hf_bench"
_STOP_S = 20


@contextmanager
def hub_process(tmp: Path, rate_mb_s: float | None) -> Iterator[str]:
    """Run a fresh Hub while inside; yields its endpoint, and removes all it stored.

    Args:
        tmp: where its content is kept.
        rate_mb_s: upload bandwidth; None does not limit it.

    Raises:
        BenchError: it does not start.
    """
    root = Path(tempfile.mkdtemp(dir=tmp, prefix="hub-"))
    command = python("-m", "agent.sandbox.hub", "--port", "0", "--root", str(root), "--user", USER)
    command += ["--token", TOKEN]
    if rate_mb_s:
        command += ["--rate-mb-s", str(rate_mb_s)]
    process = subprocess.Popen(
        command, env=clean_env(root), cwd=tmp, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise BenchError("the embedded Hub did not start; see above")
        yield json.loads(line)["endpoint"]
    finally:
        if process.stdin:
            process.stdin.close()  # its sign to stop
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(root, ignore_errors=True)
