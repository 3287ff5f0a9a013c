"""`python -m bench.nursery COUNT`: that many pods at once, each a process that has its imports behind it.

Started one by one they would queue for the processor while they import, and never meet at the Hub.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_LAST_BYTES = 500
# All that finalize uses but hf_xet, which starts threads and reads the environment of its pod.
_IMPORTED = ("agent.cli", "agent.config", "agent.finalize", "agent.hub.content", "agent.hub.commit")


def main() -> None:
    """Fork the pods, wait for all of them, and exit 0 only if all did; the environment is every pod's.

    Pod 7 publishes to `$HF_REPO_NAME-007` and keeps its state in a folder of that name in the working
    directory.
    """
    for module in _IMPORTED:
        importlib.import_module(module)
    pods = {}
    for number in range(int(sys.argv[1])):
        name = f"{os.environ['HF_REPO_NAME']}-{number:03}"
        pid = os.fork()
        if pid == 0:
            _finalize(name)
        pods[pid] = name
    failed = {}
    while pods:
        pid, status = os.wait()
        name = pods.pop(pid)
        if status:
            failed[name] = os.waitstatus_to_exitcode(status)
    for name, exit_code in failed.items():
        words = (_home(name) / "log").read_text(errors="replace")[-_LAST_BYTES:]
        print(f"{name} ended with {exit_code}: {words}")
    sys.exit(bool(failed))


def _finalize(name: str) -> NoReturn:
    """Be the pod: the command line, with everything it says going to a file."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no pod outlives its nursery
    exit_code = 1
    try:
        home = _home(name)
        home.mkdir()
        log = os.open(home / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        os.environ.update(HF_REPO_NAME=name, AGENT_STATE_DIR=str(home / "state"))
        sys.argv = ["training-agent", "finalize", "--json"]
        from agent.cli import main as training_agent

        training_agent()
    except SystemExit as error:
        exit_code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(exit_code)


def _home(name: str) -> Path:
    return Path.cwd() / name.replace("/", "-")


if __name__ == "__main__":
    main()
