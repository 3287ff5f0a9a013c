"""The process that sends ahead, as whoever trains sees it: it is started, and it is ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent import log
from agent.durable import read_document
from agent.journal import folder_of
from agent.pod_config import WITHHELD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.config import Config

# It asks no job database; an address without a key would be a configuration that is refused.
_NOT_NEEDED = {*WITHHELD, "JOB_TOKEN", "JOB_TOKEN_FILE", "SUPABASE_URL", "NEXT_PUBLIC_SUPABASE_URL"}
_WHEN_NOBODY_ELSE_READS = ("-c", "3", "-t")  # ionice's idle class; not every container lets it be set
FILE = "warm.json"  # in the job's folder: what was sent ahead
_DEAD_S = 10.0  # a process that waits for a volume which hangs dies when that answers


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
    with suppress(OSError):
        (folder_of(config) / FILE).unlink(missing_ok=True)  # of an earlier training
    if config.warm == "on" and config.token and not config.other_rank:
        try:
            process = _start(environ, begun_s)
        except OSError as error:
            log.get_logger().warning("nothing is sent ahead", because=str(error))
    try:
        yield
    finally:
        if process:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_DEAD_S)


def made_repo(config: Config) -> str | None:
    """The repo that had to be made for what was sent ahead; None if it was there."""
    found = read_document(folder_of(config) / FILE).get("repo_created")
    return found if isinstance(found, str) else None


def _start(environ: Mapping[str, str], begun_s: float) -> subprocess.Popen[bytes]:
    ionice = shutil.which("ionice")
    politely = [ionice, *_WHEN_NOBODY_ELSE_READS] if ionice else []
    isolated = "-I" if sys.flags.isolated else "-P"  # the training's folder may hold modules of any name
    home = str(Path(__file__).resolve().parents[2])
    known = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    needed = {name: value for name, value in environ.items() if name not in _NOT_NEEDED}
    process = subprocess.Popen(  # noqa: S603 - a module of ours
        [*politely, sys.executable, isolated, "-m", "agent.warm", repr(begun_s), str(os.getpid())],
        env=needed | {"PYTHONPATH": os.pathsep.join([*known, home])},
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # a Ctrl-C is for the training
    )
    assert process.stdin
    with suppress(OSError), process.stdin as told:  # it may be dead already
        told.write(json.dumps(sorted(log.hidden())).encode())
    return process
