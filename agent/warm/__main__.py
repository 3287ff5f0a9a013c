"""The process beside the training: `python -m agent.warm BEGUN PARENT`, started and ended by `run`.

BEGUN is when the training began, in Unix seconds; PARENT is the process of `run`. On stdin it is told, as
JSON, the secrets that must not be in what it sends; most of them are kept from its environment. It has the
lowest priority there is, and whatever happens to it is nobody's trouble: finalize sends the rest.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_LOWEST = 19
_FIRST_TO_GO = "1000"  # when memory runs out: rather this than the training
_ORPHANED_S = 1.0


def main() -> NoReturn:
    """Send ahead until whoever started this is gone, or ends it."""
    os.nice(_LOWEST)
    # Where the kernel groups processes by session, priorities count inside of a group only: this one is ours.
    for name, value in (("autogroup", str(_LOWEST)), ("oom_score_adj", _FIRST_TO_GO)):
        with suppress(OSError):
            Path("/proc/self", name).write_text(value, encoding="ascii")
    begun, parent = sys.argv[1:]
    threading.Thread(target=_end_with, args=[int(parent)], daemon=True).start()

    from agent import log
    from agent.config import asked_log_format
    from agent.warm.story import Story

    log.configure(style=asked_log_format() or ("console" if sys.stderr.isatty() else "json"), level="info")
    try:
        log.hide(json.load(sys.stdin))
        Story(os.environ, float(begun)).tell()
    except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on and finalize sends all
        log.get_logger().warning("nothing more is sent ahead", because=f"{type(error).__name__}: {error}")
    sys.exit(0)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHANED_S)
    os._exit(0)


if __name__ == "__main__":
    main()
