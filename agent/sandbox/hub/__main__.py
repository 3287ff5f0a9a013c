"""`python -m agent.sandbox.hub`: the embedded Hub as a process of its own, for benchmarks and the demo."""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from agent.sandbox.hub.server import Hub


def main() -> None:
    """Print `{"endpoint": …}` when ready; serve until stdin closes or a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m agent.sandbox.hub", description=__doc__)
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
        sys.stdout.write(json.dumps({"endpoint": hub.endpoint}) + "\n")
        sys.stdout.flush()
        threading.Thread(target=_wait_for_eof, args=[over], daemon=True).start()
        over.wait()


def _wait_for_eof(over: threading.Event) -> None:
    while sys.stdin.read(4096):
        pass
    over.set()


if __name__ == "__main__":
    main()
