"""A Hub and a job database that fail a third of all requests, or most: the end is the same, or the truth."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub.utils import _http as library_http

from agent.hub import xet
from agent.sandbox.loopback import Fault
from tests.wire.test_job_row import TABLE, assert_true, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.sandbox.hub import Hub
    from agent.sandbox.jobs_app import JobsApp, JobSecret
    from tests.conftest import Pod

MISFORTUNES = {
    "503": {"kind": "status", "status": 503},
    "429": {"kind": "status", "status": 429, "retry_after": 7},
    "reset": {"kind": "reset"},
    "lost": {"kind": "lost"},
    "truncated": {"kind": "truncated"},
}
HUB_UNREACHABLE, ROW_UNREACHABLE = 75, 76
MIXED = "mixed"
MIXES = [*MISFORTUNES, MIXED]
OLD_MODEL = "model.safetensors"  # that readers would load instead of the shards


def afflict(server, mix, share, seed, match=""):
    """Let that share of the matching requests fail, by a die that falls the same way for the same seed.

    One of the first four fails whatever the die says: a row is asked for so little that it might be spared.
    """
    kinds = [*MISFORTUNES] if mix == MIXED else [mix]
    each = 1 - (1 - share) ** (1 / len(kinds))  # a request that one of them spares may meet the next
    faults = [
        Fault(match=match, probability=each, seed=100 * seed + number, **MISFORTUNES[kind])
        for number, kind in enumerate(kinds)
    ]
    faults.append(Fault(match=match, nth=seed % 4, **MISFORTUNES[kinds[seed % len(kinds)]]))
    return [server.faults.add(fault) for fault in faults]


def fired(faults):
    return sum(fault.fired for fault in faults)


@dataclass
class Stage:
    """A job, its folder with a model in shards, and what finalize says about it."""

    hub: Hub
    app: JobsApp
    pod: Pod
    folder: Path
    job: JobSecret

    def told(self, **environ: str) -> tuple[int, dict[str, Any]]:
        """Run finalize; what it says is compared with what is."""
        code, answer = told(self.pod, self.folder, **self.app.environ(self.job), **environ)
        if code == HUB_UNREACHABLE:
            self.assert_unfinished(answer)
        else:
            assert_true(self.app, self.job, self.hub, code, answer)
        return code, answer

    def assert_unfinished(self, answer: dict[str, Any]) -> None:
        """Nothing is claimed: the commit may be there already, but only a proof makes it a publication."""
        row = self.app.row(self.job.id)
        assert (answer["result"], answer["published"], answer["model_url"]) == ("pending", False, None)
        assert (row["status"], row["model_url"]) == ("running", None)
        assert answer["job"] == {"id": self.job.id, "status": "running"}

    def assert_published_once(self) -> None:
        """One commit of ours, which holds the folder's files and nothing a reader takes for another model."""
        repo = self.hub.repo("ada/model")
        assert len([commit for commit in repo.commits("main") if "Finalize-Id: " in commit.message]) == 1
        for path in self.folder.iterdir():
            assert self.hub.read("ada/model", path.name) == path.read_bytes()
        assert OLD_MODEL not in repo.resolve("main").tree

    def assert_completed(self, code: int, answer: dict[str, Any]) -> None:
        """Exit 0 and a published model; the row is compared by `told`."""
        assert code == 0, answer
        self.assert_published_once()


@pytest.fixture
def stage(request, hub, pod, trained, monkeypatch) -> Callable[[int], Stage]:
    """Odd seeds send by LFS, every other pair replaces a model, every fifth has a table without rights.

    Nothing waits for real time: the library's own retries, of LFS uploads, sleep by the pod's clock too.
    """
    monkeypatch.setattr(library_http, "time", SimpleNamespace(sleep=pod.clock.sleep))

    def make(seed):
        if seed % 2:
            monkeypatch.setattr(xet, "available", lambda: False)
        if seed // 2 % 2:
            hub.create_repo("ada/model", private=True)
            hub.commit("ada/model", {OLD_MODEL: b"weights of yesterday"})
        app = request.getfixturevalue("app" if seed % 5 else "legacy_app")
        return Stage(hub, app, pod, trained("sharded"), app.add_job(progress=50.0))

    return make


def patience_of(seed):
    """Every other four seeds are too impatient for most runs to come to their end."""
    return {"AGENT_STALL_S": "10"} if seed // 4 % 2 else {}


def fail_a_third(one, mix, seed):
    faults = afflict(one.hub, mix, 0.3, seed)
    one.assert_completed(*one.told())
    assert fired(faults) > 0


def fail_most(one, mix, seed):
    """The rerun meets no failures, or 30 %."""
    faults = afflict(one.hub, mix, 0.6, seed)
    code, answer = one.told(**patience_of(seed))
    assert fired(faults) > 0
    assert code in {0, HUB_UNREACHABLE}, answer
    if code == HUB_UNREACHABLE:
        one.hub.faults.clear()
        if seed % 2:
            afflict(one.hub, mix, 0.3, seed)
        code, answer = one.told()
    one.assert_completed(code, answer)


def fail_the_row(one, mix, seed):
    """Of the database's answers 30, 60 or 95 % fail; the model is published at once all the same."""
    share, limit = (0.3, 0.6, 0.95)[seed % 3], patience_of(seed)
    faults = afflict(one.app.rest, mix, share, seed, match=TABLE)
    code, answer = one.told(**limit)
    assert fired(faults) > 0
    assert code in ({0, ROW_UNREACHABLE} if limit or share > 0.3 else {0}), answer
    one.assert_published_once()
    if code == ROW_UNREACHABLE:
        assert answer["published"]
        one.app.rest.faults.clear()
        if seed % 2:
            afflict(one.app.rest, mix, 0.3, seed, match=TABLE)
        code, answer = one.told()
    one.assert_completed(code, answer)


def fail_both(one, seed):
    faults = afflict(one.hub, MIXED, 0.3, seed), afflict(one.app.rest, MIXED, 0.3, seed, match=TABLE)
    one.assert_completed(*one.told())
    assert all(fired(of_one) for of_one in faults)


# Chosen so that each ends differently: with a commit whose answer is lost, in place of another model, …
@pytest.mark.parametrize(("mix", "seed"), [("lost", 11), ("truncated", 22), ("429", 2), (MIXED, 1)])
def test_a_hub_that_fails_a_third_of_all_requests_gets_its_one_commit(mix, seed, stage):
    fail_a_third(stage(seed), mix, seed)


# … patiently, impatiently …
@pytest.mark.parametrize("seed", [1, 4])
def test_a_hub_that_fails_most_requests_is_published_to_now_or_by_a_rerun(seed, stage):
    fail_most(stage(seed), MIXED, seed)


# … and with a row that says completed, or still running.
@pytest.mark.parametrize(("mix", "seed"), [(MIXED, 1), ("503", 14)])
def test_a_database_that_fails_most_requests_is_told_the_truth_now_or_by_a_rerun(mix, seed, stage):
    fail_the_row(stage(seed), mix, seed)


SWEEP = list(itertools.product(MIXES, range(10, 28)))


@pytest.mark.sweep
@pytest.mark.parametrize(("mix", "seed"), SWEEP)
def test_every_kind_of_failure_of_a_third_of_all_requests_ends_in_one_commit(mix, seed, stage):
    fail_a_third(stage(seed), mix, seed)


@pytest.mark.sweep
@pytest.mark.parametrize(("mix", "seed"), [(mix, seed) for mix, seed in SWEEP if seed < 18])
def test_every_kind_of_failure_of_most_requests_ends_in_one_commit_now_or_by_a_rerun(mix, seed, stage):
    fail_most(stage(seed), mix, seed)


@pytest.mark.sweep
@pytest.mark.parametrize(("mix", "seed"), [(mix, seed) for mix, seed in SWEEP if seed < 22])
def test_every_kind_of_failure_of_the_database_ends_in_a_true_row_now_or_by_a_rerun(mix, seed, stage):
    fail_the_row(stage(seed), mix, seed)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(10, 22))
def test_hub_and_database_failing_together_end_in_one_commit_and_a_completed_row(seed, stage):
    fail_both(stage(seed), seed)
