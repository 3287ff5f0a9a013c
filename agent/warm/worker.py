"""The process that sends ahead, as whoever trains sees it: it is started, and it is ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent.log import get_logger
from agent.pod_config import WITHHELD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.config import Config

_NOT_NEEDED = {*WITHHELD, "JOB_TOKEN"}
_WHEN_NOBODY_ELSE_READS = ("-c", "3")  # ionice's idle class


@contextmanager
def sending_ahead(config: Config, environ: Mapping[str, str], begun_s: float) -> Iterator[None]:
    """Send ahead while inside, unless AGENT_WARM says off or nothing will be published from here.

    It is ended with no grace: what it had not finished, finalize sends.

    Args:
        config: what was asked for.
        environ: our environment; it gets no secret that it does not need.
        begun_s: when the training began, in Unix seconds.
    """
    process = None
    if config.warm == "on" and config.token and not config.other_rank:
        try:
            process = _start(environ, begun_s)
        except OSError as error:
            get_logger().warning("nothing is sent ahead", because=str(error))
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def _start(environ: Mapping[str, str], begun_s: float) -> subprocess.Popen[bytes]:
    ionice = shutil.which("ionice")
    politely = [ionice, *_WHEN_NOBODY_ELSE_READS] if ionice else []
    isolated = "-I" if sys.flags.isolated else "-P"  # the training's folder may hold modules of any name
    home = str(Path(__file__).resolve().parents[2])
    known = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    needed = {name: value for name, value in environ.items() if name not in _NOT_NEEDED}
    return subprocess.Popen(  # noqa: S603 - a module of ours
        [*politely, sys.executable, isolated, "-m", "agent.warm", repr(begun_s)],
        env=needed | {"PYTHONPATH": os.pathsep.join([*known, home])},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # a Ctrl-C is for the training
    )
