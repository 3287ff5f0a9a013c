"""What it takes to go back to an earlier model, and to look at what happened."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.sandbox.hub import Hub
from bench.child import clean_env, python, run
from bench.cost import charge
from bench.hub import TOKEN, USER
from bench.measure import Row, in_turns
from bench.sides import fresh_home
from bench.target import Target
from bench.trail import EVENTS, volume_with_a_history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.child import Cost
    from bench.settings import Settings

FILES, FILE_BYTES = 100, 500_000_000
REPO = f"{USER}/large"
_MOST_S_ROLLBACK, _MOST_S_HISTORY = 10, 1
# What a person would write instead: copies and deletions, unproven, and on top of whatever is there.
_BY_HAND = """
import sys
from huggingface_hub import CommitOperationCopy, CommitOperationDelete, HfApi
endpoint, token, repo, target = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=token)
now, then = (
    {file.path: file.blob_id for file in api.list_repo_tree(repo, recursive=True, revision=revision)}
    for revision in ("main", target)
)
changed = [path for path, oid in then.items() if now.get(path) != oid]
copies = [CommitOperationCopy(path, path, src_revision=target) for path in changed]
gone = [CommitOperationDelete(path) for path in now.keys() - then.keys()]
api.create_commit(repo, [*copies, *gone], commit_message="roll back")
"""
_READ = "import json, sys; print(len([json.loads(line) for line in open(sys.argv[1])]))"


def rollback(settings: Settings) -> Iterator[Row]:
    """50 GB in 100 files go back to what they were, against a script that copies them on the Hub."""
    with tempfile.TemporaryDirectory(dir=settings.tmp) as folder, Hub(root=Path(folder) / "hub") as hub:
        hub.add_user(USER, token=TOKEN)
        home = fresh_home(Path(folder))
        pairs = in_turns(
            settings.short_runs, partial(_roll_back, hub, home), partial(_roll_back, hub, home, by_hand=True)
        )
    what = f"{FILES} files, {FILES * FILE_BYTES / 1e9:g} GB"
    target = Target(most=_MOST_S_ROLLBACK)
    yield charge(pairs, "wall_s", "rollback", what, ("rollback", "script"), target=target)


def _roll_back(hub: Hub, home: Path, *, by_hand: bool = False) -> Cost:
    """Publish a good model and a bad one, in name only, and go back to the good one."""
    hub.repos.pop(REPO, None)
    repo = hub.create_repo(REPO)
    oids = []
    for title in ("good", "bad"):
        tree = dict(repo.resolve("main").tree)
        for number in range(FILES):
            sha256 = f"{title}{number:03d}".encode().hex().rjust(64, "0")
            path = f"model-{number + 1:05d}-of-{FILES:05d}.safetensors"
            tree[path] = hub.content.pretend(sha256, FILE_BYTES)
        oids.append(repo.commit("main", tree, title=title, message="", author=USER).oid)
    if by_hand:
        command = python("-c", _BY_HAND, hub.endpoint, TOKEN, REPO, oids[0])
    else:
        command = python("-m", "agent", "rollback", REPO, "--to", oids[0], "--json")
    state = home / f"state-{oids[0]}"
    env = clean_env(home, HF_ENDPOINT=hub.endpoint, HF_TOKEN=TOKEN, AGENT_STATE_DIR=str(state))
    cost = run(command, env, cwd=home)
    assert repo.resolve("main").tree == repo.resolve(oids[0]).tree
    return cost


def history(settings: Settings) -> Iterator[Row]:
    """10,000 events of a job, against a script that only parses them."""
    with volume_with_a_history(settings.tmp) as (home, env, trail):
        ours = python("-m", "agent", "history", "--last", str(EVENTS))
        pairs = in_turns(
            settings.short_runs,
            partial(run, ours, env, cwd=home),
            partial(run, python("-c", _READ, str(trail)), env, cwd=home),
        )
    target = Target(most=_MOST_S_HISTORY)
    yield charge(pairs, "wall_s", "history", f"{EVENTS:,} events", ("history", "parsing"), target=target)
