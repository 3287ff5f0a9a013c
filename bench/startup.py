"""What takes no time, or should: a rerun with nothing to do, help, a refusal, a look at what goes on."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from bench import folders, sides
from bench.child import clean_env, python, run
from bench.cost import charge
from bench.hub import hub_process
from bench.jobs import begin, jobs_app
from bench.measure import Row, in_turns
from bench.settings import gigabytes
from bench.target import Target
from bench.trail import EVENTS, volume_with_a_history

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bench.settings import Settings

_AFTER_IMPORT = Target(times=1, plus=0.5)
_MOST_S_HELP, _MOST_S_STATUS = 0.25, 0.3
_EXIT_ARTIFACT = 11
_NOTHING = "python -c pass"


def noop(settings: Settings) -> Iterator[Row]:
    """A rerun on a published folder, against importing what talks to Hub and row, and doing nothing."""
    with jobs_app() as app, hub_process(settings.tmp, None) as hub:
        job = begin(app, hub.endpoint)
        rerun = partial(_rerun, settings, hub.endpoint, folders.FIXTURE, imported=sides.IMPORT_CLIENTS)
        yield rerun(what="rerun, small model, job row", job=job)
    with hub_process(settings.tmp, None) as hub:
        yield _rerun(settings, hub.endpoint, folders.FIXTURE, what="rerun, small model")
    with (
        folders.one_file_model(settings.tmp, settings.size_mb) as folder,
        hub_process(settings.tmp, None) as hub,
    ):
        yield _rerun(settings, hub.endpoint, folder, what=f"rerun, {gigabytes(settings.size_mb)}")


def _rerun(
    settings: Settings,
    endpoint: str,
    folder: Path,
    *,
    what: str,
    imported: str = sides.IMPORT_CLIENT,
    job: Mapping[str, str] | None = None,
) -> Row:
    home = sides.fresh_home(settings.tmp)
    again = partial(sides.finalize, home, endpoint, folder, job=job)
    least = partial(sides.import_client, home, imported)
    again()
    least()
    runs = in_turns(settings.short_runs, again, least)
    shutil.rmtree(home)
    clients = "import of both clients" if job else "import of the client"
    return charge(runs, "wall_s", "noop", what, (sides.FINALIZE, clients), target=_AFTER_IMPORT)


def start(settings: Settings) -> Iterator[Row]:
    """Answers that need no Hub, against an interpreter that does nothing."""
    home = sides.fresh_home(settings.tmp)
    empty = clean_env(home, AGENT_STATE_DIR=str(home / "state"), HF_HOME=str(home / "hf"))
    asked = partial(_start, settings, home, empty)
    yield asked(["--help"], what="--help", target=Target(most=_MOST_S_HELP))
    missing = ["finalize", "--output-dir", str(home / "missing")]
    yield asked(missing, what="refusal of a missing folder", exit_code=_EXIT_ARTIFACT)
    yield asked(["status"], what="status, empty volume", target=Target(most=_MOST_S_STATUS))
    shutil.rmtree(home)
    with volume_with_a_history(settings.tmp) as (home, env, _):
        target = Target(most=_MOST_S_STATUS)
        yield _start(settings, home, env, ["status"], what=f"status beside {EVENTS:,} events", target=target)


def _start(
    settings: Settings,
    home: Path,
    env: dict[str, str],
    arguments: list[str],
    *,
    what: str,
    target: Target | None = None,
    exit_code: int = 0,
) -> Row:
    begin_and_end = partial(run, env=env, cwd=home, quiet_disk=False)
    ours = partial(begin_and_end, python("-m", "agent", *arguments), expect=exit_code)
    ours()
    runs = in_turns(settings.short_runs, ours, partial(begin_and_end, python("-c", "pass")))
    return charge(runs, "wall_s", "start", what, (arguments[0], _NOTHING), target=target)
