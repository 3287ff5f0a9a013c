"""Many pods that end at the same time, at a Hub that limits how often its API may be called."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent.sandbox.hub import Hub
from bench import folders
from bench.child import BenchError, clean_env, python, run
from bench.hub import TOKEN, USER
from bench.measure import Row, row
from bench.sides import fresh_home
from bench.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.settings import Settings

CROWD, CALLS_S = 100, 20
_MOST_TIMES = 1.5
_DEADLINE_S = 230  # of every pod, so that this ends whatever happens


def pods(settings: Settings) -> Iterator[Row]:
    """Calls that a pod of a crowd makes, and how long the crowd takes, against one pod; measured once."""
    names = (f"{CROWD} pods at once", "one pod alone")
    crowd, alone = _publish(settings.tmp, CROWD), _publish(settings.tmp, 1)
    of_one, until_the_last = zip(crowd, alone, strict=True)
    what = f"calls of a pod, {CALLS_S} a second allowed"
    yield row("pods", what, "calls", names, [of_one], target=Target(times=_MOST_TIMES))
    yield row("pods", "until the last has published", "s", names, [until_the_last])


def _publish(tmp: Path, count: int) -> tuple[float, float]:
    """Let pods publish at once, each to a repo of its own.

    Returns:
        The calls that one pod made, storage aside, and the seconds until the last was done.

    Raises:
        BenchError: one of them did not publish, or published twice.
    """
    home = fresh_home(tmp)
    with tempfile.TemporaryDirectory(dir=tmp) as root, Hub(root=Path(root), api_rate_s=CALLS_S) as hub:
        hub.add_user(USER, token=TOKEN)
        env = clean_env(
            home,
            HF_TOKEN=TOKEN,
            HF_ENDPOINT=hub.endpoint,
            HF_HOME=str(home / "hf"),
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            HF_REPO_NAME=f"{USER}/pod",
            OUTPUT_DIR=str(folders.FIXTURE),
            AGENT_DEADLINE_S=str(_DEADLINE_S),
            AGENT_LOG_FORMAT="json",
        )
        cost = run(python("-m", "bench.nursery", str(count)), env, cwd=home)
        for repo_id, repo in hub.repos.items():
            found = sum("Finalize-Id: " in commit.message for commit in repo.commits("main"))
            if found != 1:
                raise BenchError(f"{repo_id} holds {found} publications instead of one")
        if len(hub.repos) != count:
            raise BenchError(f"{count} pods published to {len(hub.repos)} repos")
        calls = sum(request.kind != "cas" for request in hub.requests)
    shutil.rmtree(home)
    return calls / count, cost.wall_s
