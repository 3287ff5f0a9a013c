"""How fast the embedded Hub itself is: no row about uploads can be faster than it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import limits
from bench.child import BenchError, clean_env, python
from bench.folders import MEGA
from bench.hub import hub_process
from bench.loader import CONNECTIONS, XORB_BYTES, write_xorb
from bench.measure import Row, in_turns, row
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.settings import Settings

_LEAST_MB_S = 500


def storage(settings: Settings) -> Iterator[Row]:
    """Bytes a second into its storage from a loader that only sends, then the proof of the file.

    Against the same bytes written to this disk, and against one read of them with their sha256.
    """
    count = max(CONNECTIONS, round(settings.size_mb * MEGA / XORB_BYTES))
    with tempfile.TemporaryDirectory(dir=settings.tmp) as folder:
        xorb = Path(folder) / "xorb"
        write_xorb(xorb)
        runs = in_turns(
            settings.runs, partial(_load, settings.tmp, xorb, count), partial(_write, xorb, count)
        )
    what = f"into the embedded Hub over {CONNECTIONS} connections"
    sent, proven = ([(ours[kind], theirs[kind]) for ours, theirs in runs] for kind in (0, 1))
    yield row("storage", what, "MB/s", ("loader", "written to disk"), sent, target=Target(least=_LEAST_MB_S))
    yield row("storage", "rebuilt and proven by it", "MB/s", ("loader", "one read with sha256"), proven)


def _load(tmp: Path, xorb: Path, count: int) -> tuple[float, float]:
    """MB/s that a Hub takes, and MB/s that it rebuilds and hashes."""
    with hub_process(tmp, None) as hub:
        command = python("-m", "bench.loader", hub.endpoint, str(xorb), str(count))
        os.sync()
        done = subprocess.run(command, env=clean_env(tmp), cwd=tmp, capture_output=True, check=False)
        if done.returncode:
            raise BenchError(f"the loader ended with {done.returncode}:\n{done.stderr.decode()}")
        took = json.loads(done.stdout)
    size_mb = count * XORB_BYTES / MEGA
    return size_mb / took["sent_s"], size_mb / took["proven_s"]


def _write(xorb: Path, count: int) -> tuple[float, float]:
    """MB/s of the same bytes written by one process, and of a read of them with their sha256."""
    content, copies = xorb.read_bytes(), xorb.with_name("copies")
    os.sync()
    begun = time.perf_counter()
    with copies.open("wb", buffering=0) as stream:
        for _ in range(count):
            stream.write(content)
    written_s = time.perf_counter() - begun
    size_mb, hash_s = limits.size_mb(xorb.parent) - len(content) / MEGA, limits.hash_s(copies)
    copies.unlink()
    return size_mb / written_s, size_mb / hash_s
