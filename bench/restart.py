"""Killed at half, then run again: how many bytes that takes in all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from agent.hub.environment import prepare
from bench import folders, limits, sides
from bench.child import run
from bench.hub import hub_process
from bench.measure import Row, in_turns, row
from bench.settings import gigabytes, speed
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.settings import Settings

_LARGER = 4  # times --size-mb
_XORB_MB = 64
_MOST_TIMES = 1.05
_NAMES = (sides.FINALIZE, sides.HF_UPLOAD)


def restart(settings: Settings) -> Iterator[Row]:
    """Bytes that the Hub receives over both runs, of all requests, with half-sent ones."""
    size = settings.size_mb
    with folders.one_file_model(settings.tmp, size) as folder:
        most = limits.size_mb(folder) + (_concurrency(settings.tmp) + 1) * _XORB_MB
        yield _killed(settings, folder, size, settings.rate_mb_s, most)
    size *= _LARGER
    with folders.one_file_model(settings.tmp, size) as folder:
        yield _killed(settings, folder, size, settings.fast_mb_s, _MOST_TIMES * limits.size_mb(folder))


def _concurrency(tmp: Path) -> int:
    """How many uploads the agent lets hf_xet do at a time."""
    environ: dict[str, str] = {}
    prepare(environ, tmp / "asked")
    return int(environ["HF_XET_CLIENT_AC_MAX_UPLOAD_CONCURRENCY"])


def _killed(settings: Settings, folder: Path, size_mb: float, rate_mb_s: float, most_mb: float) -> Row:
    both = partial(_twice, settings, folder, rate_mb_s)
    pairs = in_turns(settings.runs, partial(both, _finalize), partial(both, _hf_upload))
    what = f"kill -9 at half of {gigabytes(size_mb)} {speed(rate_mb_s)}, both runs"
    return row("restart", what, "MB", _NAMES, pairs, target=Target(most=round(most_mb)))


def _finalize(home: Path, endpoint: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    return sides.FINALIZE_COMMAND, sides.agent_environ(home, endpoint, folder)


def _hf_upload(home: Path, endpoint: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    return sides.hf_upload_command(home, endpoint, folder)


def _twice(
    settings: Settings,
    folder: Path,
    rate_mb_s: float,
    side: Callable[[Path, str, Path], tuple[list[str], dict[str, str]]],
) -> float:
    home = sides.fresh_home(settings.tmp)
    with hub_process(settings.tmp, rate_mb_s) as hub:
        command, env = side(home, hub.endpoint, folder)
        first = subprocess.Popen(
            command,
            env=env,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            hub.await_bytes(limits.size_mb(folder) * folders.MEGA / 2, first)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        hub.limit(None)  # how many bytes it takes is no question of time any more
        run(command, env, cwd=home, quiet_disk=False)
        received = hub.look().received_bytes
    shutil.rmtree(home)
    return received / folders.MEGA
