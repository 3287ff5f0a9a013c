"""The rows: what is compared with what, and what is promised."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.sandbox.jobs_app import JobsApp
from agent.sandbox.postgres import Cluster
from bench import folders, sides
from bench.child import clean_env, python, run
from bench.hub import hub_process
from bench.measure import Row, Target, in_turns, series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.child import Cost

FINALIZE, HF_UPLOAD, IMPORT = "finalize", "hf upload", "import of the client"
SHORT_FACTOR = 5  # what takes a second is run this much more often
_SHARDS = 8
_MOST_MB = 450
_EXIT_ARTIFACT = 11
_UNITS = {"wall_s": "s", "cpu_s": "s", "peak_mb": "MB"}


@dataclass(frozen=True)
class Settings:
    """How big, how often, how fast, and where."""

    tmp: Path
    size_mb: float
    runs: int
    rate_mb_s: float

    @property
    def short_runs(self) -> int:
        """How often to run what takes a second."""
        return self.runs * SHORT_FACTOR


def cold(settings: Settings) -> Iterator[Row]:
    """A first publish at a given bandwidth, against the Hub's own command line."""
    with folders.one_file_model(settings.tmp, settings.size_mb) as folder:
        pairs = in_turns(
            partial(sides.first_finalize, settings.tmp, folder, settings.rate_mb_s),
            partial(sides.first_hf_upload, settings.tmp, folder, settings.rate_mb_s),
            settings.runs,
        )
    publish = f"publish {settings.size_mb:g} MB at {settings.rate_mb_s:g} MB/s"
    names = (FINALIZE, HF_UPLOAD)
    yield _row(pairs, "wall_s", group="cold", what=publish, names=names, target=Target(ratio=1.05))
    yield _row(pairs, "cpu_s", group="cold", what="its processor time", names=names)
    yield _row(pairs, "peak_mb", group="cold", what="its peak memory", names=names)


def card(settings: Settings) -> Iterator[Row]:
    """A first publish of a model with the log of its training, against one whose card has nothing to draw."""
    log = "trainer_state.json"

    def publish(folder: Path, *, logged: bool) -> Cost:
        (folder / log).unlink(missing_ok=True)
        if logged:
            folders.write_log(folder)
        return sides.first_finalize(settings.tmp, folder, settings.rate_mb_s)

    with folders.one_file_model(settings.tmp, settings.size_mb) as folder:
        pairs = in_turns(
            partial(publish, folder, logged=True), partial(publish, folder, logged=False), settings.runs
        )
    what = f"card and plots, {settings.size_mb:g} MB at {settings.rate_mb_s:g} MB/s"
    names = ("with them", "without")
    yield _row(pairs, "wall_s", group="card", what=what, names=names, target=Target(ratio=1.02))
    yield _row(pairs, "cpu_s", group="card", what="their processor time", names=names)
    yield _row(pairs, "peak_mb", group="card", what="their peak memory", names=names)


def noop(settings: Settings) -> Iterator[Row]:
    """A rerun on a published folder, against importing the client and doing nothing."""
    yield _noop_of(settings, folders.FIXTURE, "rerun, small fixture")
    yield _noop_with_a_row(settings)
    with folders.one_file_model(settings.tmp, settings.size_mb) as folder:
        yield _noop_of(settings, folder, f"rerun, {settings.size_mb:g} MB")


def _noop_of(settings: Settings, folder: Path, what: str) -> Row:
    home = sides.fresh_home(settings.tmp)
    with hub_process(settings.tmp, None) as endpoint:
        sides.finalize(home, endpoint, folder)
        sides.import_client(home)
        pairs = in_turns(
            partial(sides.finalize, home, endpoint, folder),
            partial(sides.import_client, home),
            settings.short_runs,
        )
    shutil.rmtree(home)
    return _row(
        pairs, "wall_s", group="noop", what=what, names=(FINALIZE, IMPORT), target=Target(difference=0.5)
    )


def _noop_with_a_row(settings: Settings) -> Row:
    """A rerun whose row is in a job database, against importing both clients."""
    home = sides.fresh_home(settings.tmp)
    with hub_process(settings.tmp, None) as endpoint, Cluster() as cluster, JobsApp(cluster) as app:
        app.allow_hub(endpoint)
        job = app.environ(app.add_job())
        rerun = partial(sides.finalize, home, endpoint, folders.FIXTURE, job=job)
        rerun()
        both = partial(sides.import_client, home, sides.IMPORT_CLIENTS)
        both()
        pairs = in_turns(rerun, both, settings.short_runs)
    shutil.rmtree(home)
    names = (FINALIZE, "import of both clients")
    what = "rerun, small fixture, job row"
    return _row(pairs, "wall_s", group="noop", what=what, names=names, target=Target(difference=0.5))


def memory(settings: Settings) -> Iterator[Row]:
    """Peak memory of a big publish, against one an eighth as big, and against the Hub's command line.

    Once with no limit on bandwidth, once at the given one: what waits to be sent waits in memory.
    """
    small_mb, large_mb = settings.size_mb / 2, settings.size_mb * 4
    sizes = (f"{large_mb:g} MB", f"{small_mb:g} MB")
    with (
        folders.one_file_model(settings.tmp, small_mb) as small,
        folders.one_file_model(settings.tmp, large_mb) as large,
    ):
        for rate_mb_s in (None, settings.rate_mb_s):
            pairs = in_turns(
                partial(_large_and_small, sides.first_finalize, settings.tmp, (large, small), rate_mb_s),
                partial(_large_and_small, sides.first_hf_upload, settings.tmp, (large, small), rate_mb_s),
                settings.runs,
            )
            speed = f"at {rate_mb_s:g} MB/s" if rate_mb_s else "unthrottled"
            row = partial(_row, cost="peak_mb", group="memory")
            yield row(
                [ours for ours, _ in pairs],
                what=f"peak of {FINALIZE}, {speed}",
                names=sizes,
                target=Target(ratio=1.2, ours=_MOST_MB),
            )
            yield row([theirs for _, theirs in pairs], what=f"peak of {HF_UPLOAD}, {speed}", names=sizes)
            yield row(
                [(ours[0], theirs[0]) for ours, theirs in pairs],
                what=f"peak at {sizes[0]}, {speed}",
                names=(FINALIZE, HF_UPLOAD),
            )
    yield _many_shards(settings)


def _many_shards(settings: Settings) -> Row:
    with folders.sharded_model(settings.tmp, _SHARDS, settings.size_mb) as folder:
        pairs = in_turns(
            partial(sides.first_finalize, settings.tmp, folder, settings.rate_mb_s),
            partial(sides.first_hf_upload, settings.tmp, folder, settings.rate_mb_s),
            settings.runs,
        )
    what = f"peak of {settings.size_mb:g} MB in {_SHARDS} shards, at {settings.rate_mb_s:g} MB/s"
    names = (FINALIZE, HF_UPLOAD)
    return _row(pairs, "peak_mb", group="memory", what=what, names=names, target=Target(ours=_MOST_MB))


def _large_and_small(
    publish: Callable[[Path, Path, float | None], Cost],
    tmp: Path,
    folders_by_size: tuple[Path, Path],
    rate_mb_s: float | None,
) -> tuple[Cost, Cost]:
    large, small = folders_by_size
    return publish(tmp, large, rate_mb_s), publish(tmp, small, rate_mb_s)


def imports(settings: Settings) -> Iterator[Row]:
    """Answers that need no Hub, against an interpreter that does nothing."""
    home = sides.fresh_home(settings.tmp)
    env = clean_env(home, AGENT_STATE_DIR=str(home / "state"), HF_HOME=str(home / "hf"))
    start = partial(run, env=env, cwd=home, quiet_disk=False)
    missing = python("-m", "agent", "finalize", "--output-dir", str(home / "missing"))
    asked = {
        "--help": partial(start, python("-m", "agent", "--help")),
        "missing folder": partial(start, missing, expect=_EXIT_ARTIFACT),
    }
    for name, side in asked.items():
        side()
        pairs = in_turns(side, partial(start, python("-c", "pass")), settings.short_runs)
        yield _row(pairs, "wall_s", group="import", what="start-up", names=(name, "python -c pass"))
    shutil.rmtree(home)


def _row(
    pairs: Sequence[tuple[Cost, Cost]],
    cost: str,
    *,
    group: str,
    what: str,
    names: tuple[str, str],
    target: Target | None = None,
) -> Row:
    ours, theirs = (series([getattr(pair[side], cost) for pair in pairs]) for side in (0, 1))
    return Row(group, what, _UNITS[cost], *names, ours, theirs, target)
