"""The process beside the training: `python -m agent.warm BEGUN`, started and ended by `run`.

BEGUN is when the training began, in Unix seconds. It has the lowest priority there is, and whatever happens
to it is nobody's trouble: finalize sends the rest.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import NoReturn

_LOWEST = 19
_ORPHANED_S = 1.0


def main() -> NoReturn:
    """Send ahead until whoever started this is gone, or ends it."""
    os.nice(_LOWEST)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()

    from agent.warm.story import Story

    try:
        Story(os.environ, float(sys.argv[1])).tell()
    except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on and finalize sends all
        from agent.log import get_logger

        get_logger().warning("nothing more is sent ahead", because=f"{type(error).__name__}: {error}")
    sys.exit(0)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHANED_S)
    os._exit(0)


if __name__ == "__main__":
    main()
