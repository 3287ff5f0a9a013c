"""`python -m bench`: measure finalize beside what it is compared with, and print one table."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import checking, report, rows
from bench.child import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from bench.measure import Row


def _calls(settings: rows.Settings) -> Iterator[Row]:
    from bench.calls import calls  # its Hub makes this process bigger: see `child.Cost`

    return calls(settings)


def _pods(settings: rows.Settings) -> Iterator[Row]:
    from bench.pods import pods  # so does its Hub

    return pods(settings)


def _rollback(settings: rows.Settings) -> Iterator[Row]:
    from bench.operate import rollback  # and so does this one's

    return rollback(settings)


def _history(settings: rows.Settings) -> Iterator[Row]:
    from bench.operate import history

    return history(settings)


# In this order: the rows that measure memory come before those that make this process bigger.
ROWS: dict[str, Callable[[rows.Settings], Iterator[Row]]] = {
    "cold": rows.cold,
    "card": rows.card,
    "noop": rows.noop,
    "memory": rows.memory,
    "check": checking.check,
    "calls": _calls,
    "import": rows.imports,
    "pods": _pods,
    "rollback": _rollback,
    "history": _history,
}


def main() -> None:
    """Run the chosen rows; whatever ends this, children and temporary folders are gone afterwards."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, with commas (default: all)")
    parser.add_argument("--size-mb", type=float, default=1000, help="weights of the big model")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side; short ones run more often")
    parser.add_argument("--rate-mb-s", type=float, default=50, help="upload bandwidth, where it is limited")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every value there")
    options = parser.parse_args()
    chosen = options.rows.split(",")
    if unknown := set(chosen) - ROWS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    signal.signal(signal.SIGTERM, _leave)
    ran_on = report.machine()
    found: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as tmp:
            settings = rows.Settings(Path(tmp), options.size_mb, options.runs, options.rate_mb_s)
            for name in [name for name in ROWS if name in chosen]:
                sys.stderr.write(f"measuring {name} …\n")
                found += ROWS[name](settings)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        sys.exit(128 + signal.SIGINT)
    report.show(found, ran_on)
    if options.json:
        asked = {"size_mb": options.size_mb, "runs": options.runs, "rate_mb_s": options.rate_mb_s}
        report.save(options.json, found, ran_on, asked)


def _leave(signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
