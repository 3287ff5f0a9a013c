"""`python -m agent.sandbox.hub`: the embedded Hub as a process of its own, for benchmarks and the demo.

Lines on stdin are orders, each answered by one line of JSON on stdout:

    rate 50      from now on this many 10^6 bytes per second come in; `rate 0` lifts the limit
    look 17      all bytes that have come in, also of requests under way, and the requests from that number on
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.sandbox.hub.server import Hub

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Print `{"endpoint": …}` when ready; serve until stdin closes or a signal comes."""
    parser = argparse.ArgumentParser(
        prog="python -m agent.sandbox.hub", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--root", type=Path, help="folder for content (default: a temporary one)")
    parser.add_argument("--user", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--rate-mb-s", type=float, help="upload bandwidth in 10^6 bytes per second")
    options = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    rate = options.rate_mb_s * 1e6 if options.rate_mb_s else None
    with Hub(root=options.root, rate_bytes_s=rate, port=options.port) as hub:
        hub.add_user(options.user, token=options.token)
        _say({"endpoint": hub.endpoint})
        threading.Thread(target=_obey, args=[hub, over], daemon=True).start()
        over.wait()


def _obey(hub: Hub, over: threading.Event) -> None:
    """Carry out orders until stdin closes; what is no order is left unanswered."""
    orders: dict[str, Callable[[Hub, str], dict[str, Any]]] = {"rate": _rate, "look": _look}
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word in orders:
            _say(orders[word](hub, value))
    over.set()


def _rate(hub: Hub, value: str) -> dict[str, Any]:
    hub.rate.bytes_s = float(value) * 1e6 or None
    return {"rate_mb_s": float(value)}


def _look(hub: Hub, value: str) -> dict[str, Any]:
    requests = [
        {"kind": one.kind, "method": one.method, "path": one.path, "received_bytes": one.received_bytes}
        for one in hub.requests[int(value) :]
    ]
    return {"received_bytes": hub.rate.taken, "requests": requests}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
