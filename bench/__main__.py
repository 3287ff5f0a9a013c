"""`python -m bench`: measure the agent beside what it is compared with, and print one table."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import groups, plot, report, results
from bench.child import BenchError
from bench.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from bench.results import Group


def main() -> None:
    """Run the chosen groups of rows; whatever ends this, children and temporary folders are gone after it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    everything = [*groups.PROMISED, *groups.MORE]
    parser.add_argument(
        "--rows",
        default=",".join(everything),
        help="which groups of rows, with commas: promised, more, or any of " + ", ".join(everything),
    )
    parser.add_argument("--size-mb", type=float, default=1000, help="weights of the model in the middle")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side; short ones run more often")
    parser.add_argument("--rate-mb-s", type=float, default=50, help="upload bandwidth, where it is limited")
    parser.add_argument(
        "--save",
        nargs="?",
        const=results.PATH,
        type=Path,
        metavar="PATH",
        help=f"keep every value there (default: {results.PATH}); other groups that it holds stay",
    )
    options = parser.parse_args()
    try:
        chosen = groups.choose(options.rows.split(","))
    except BenchError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, _leave)
    asked = {"size_mb": options.size_mb, "runs": options.runs, "rate_mb_s": options.rate_mb_s}
    found: list[Group] = []
    try:
        _announce(chosen, asked)
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as tmp:
            settings = Settings(Path(tmp), **asked)
            for name in chosen:
                found.append(_measure(name, settings, asked))
                if options.save:
                    results.save(options.save, found[-1])
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        sys.exit(128 + signal.SIGINT)
    finally:
        if found:
            report.show(found)
    if options.save:
        _draw(options.save)


def _announce(chosen: list[str], asked: dict[str, float]) -> None:
    """Say how long it takes, as far as an earlier run of the same size knows."""
    known = {group.name: group.took_s for group in results.load() if group.asked == asked}
    minutes = sum(known.get(name, 0) for name in chosen) / 60
    new = [name for name in chosen if name not in known]
    sys.stderr.write(f"{minutes:.0f} minutes, as last time" + (f", and {', '.join(new)}\n" if new else "\n"))


def _measure(name: str, settings: Settings, asked: dict[str, float]) -> Group:
    ran_on, begun = report.machine(), time.monotonic()
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}\n")
    rows = list(groups.load(name)(settings))
    return results.Group(name, asked, ran_on, time.monotonic() - begun, rows)


def _draw(path: Path) -> None:
    """Draw what a document holds beside it, once it holds all that is promised."""
    kept = results.load(path)
    if set(groups.ORDER) <= {group.name for group in kept}:
        plot.draw(kept, path.with_suffix(".png"))
        sys.stderr.write("`python -m bench.summary` brings README up to date\n")


def _leave(signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
