"""What every crash test shares: a finalize that dies at a request, and what must be true afterwards."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import FIXTURES, Pod, retrain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from agent.sandbox.hub import Hub
    from agent.sandbox.hub.repos import Entry
    from agent.sandbox.jobs_app import JobsApp
    from agent.sandbox.loopback import LoopbackServer, Request

    Tree = Mapping[str, Entry]

LONGEST_S = 120.0  # for one finalize on a busy machine; a quiet one takes two seconds
NEVER_PUBLISHED = {"training_args.bin", "trainer_state.json"} | {
    f"{kind}_results.json" for kind in ("all", "eval", "train")
}
MADE_HERE = {"README.md", "adapter_config.json", "finalize.json"}  # repaired or written for the reader
HUB, ROW = "hub", "row"


@dataclass(frozen=True)
class Moment:
    """Where a finalize dies: at the `index`-th request to a server, before it acts or after."""

    server: str
    index: int
    after: bool
    method: str
    path: str

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.server} #{self.index} {self.method} {self.path}"


@dataclass(frozen=True)
class Quiet:
    """The requests of a finalize that nobody disturbed, in order."""

    hub: tuple[Request, ...]
    row: tuple[Request, ...]

    @property
    def total(self) -> int:
        return len(self.hub) + len(self.row)

    def moments(self) -> list[Moment]:
        return [
            Moment(server, index, after, one.method, one.path)
            for server, requests in ((HUB, self.hub), (ROW, self.row))
            for index, one in enumerate(requests)
            for after in (False, True)
        ]

    def since_commit(self) -> list[Moment]:
        """The moments at which the model is published and its job is not done."""
        commit = next(index for index, one in enumerate(self.hub) if "/commit/" in one.path)
        completed = max(index for index, one in enumerate(self.row) if one.method == "PATCH")
        first = {HUB: (commit, True), ROW: (completed, False)}
        return [moment for moment in self.moments() if (moment.index, moment.after) >= first[moment.server]]


def ended(process: subprocess.Popen[str], within_s: float = LONGEST_S) -> tuple[int, str, str]:
    """Wait for a process: exit code, stdout, stderr. One that does not end is ended, and fails the test."""
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"it did not end within {within_s} s:\n{err}")
    return process.returncode, out, err


def until(condition: Callable[[], object], within_s: float = LONGEST_S) -> None:
    """Wait for what another thread or process is about to do.

    Raises:
        TimeoutError: it did not.
    """
    over = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > over:
            raise TimeoutError
        time.sleep(0.002)


def survive(make: Callable[[], Stage], moments: Iterable[Moment]) -> None:
    """Die at each moment, on a stage of its own, and let one rerun mend it."""
    for moment in moments:
        one = make()
        try:
            one.kill_at(moment)
            one.assert_converged(one.run())
        except BaseException as error:
            error.add_note(f"killed {moment}")
            raise


class Stage:
    """A trained model, its job and its pod; a repo, perhaps with an older model of another job."""

    def __init__(self, hub: Hub, app: JobsApp, home: Path, *, over: str | None, model: str) -> None:
        self.hub, self.app, self.home = hub, app, home
        self.servers: dict[str, LoopbackServer] = {HUB: hub, ROW: app.rest}
        self.die = random.Random(home.name)
        self.repo_id = f"ada/{home.name}"
        self.pod = Pod(hub, home / "state")
        self.job = app.add_job()
        self.folder = self._trained(model)
        if over:
            Pod(hub, home / "older-state").finalize(self._trained(over), HF_REPO_NAME=self.repo_id)
        self.older = [commit.oid for commit in hub.repo(self.repo_id).commits()] if over else []
        self.seen = [self.readers_see()]
        self.processes: list[subprocess.Popen[str]] = []
        self.more: dict[str, str] = {}  # variables of its pod
        self.plots: set[str] = set()  # that its pod draws

    def close(self) -> None:
        """End what a failed test left running."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def start(self, pod: Pod | None = None, folder: Path | None = None) -> subprocess.Popen[str]:
        """Start a finalize as the pod's entrypoint does."""
        environ = self.app.environ(self.job) | {"HF_REPO_NAME": self.repo_id} | self.more
        process = (pod or self.pod).command(folder or self.folder, **environ)
        self.processes.append(process)
        return process

    def run(self) -> dict[str, Any]:
        """Run a finalize to its good end and return what it answers."""
        code, out, err = ended(self.start())
        assert code == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def quiet(self) -> Quiet:
        """Run a finalize that nobody disturbs and return its requests."""
        first = {name: len(server.requests) for name, server in self.servers.items()}
        self.run()
        return Quiet(*(tuple(self.servers[name].requests[first[name] :]) for name in (HUB, ROW)))

    def kill_at(self, moment: Moment) -> None:
        """Start a finalize that dies there."""
        fault = Fault("kill", nth=moment.index, after=moment.after)
        self.servers[moment.server].faults.add(fault)
        process = self.start()
        fault.pid = process.pid
        code, _, err = ended(process)
        self.servers[moment.server].faults.clear()
        assert (fault.fired, code) == (1, -signal.SIGKILL), err
        self.look_after_a_kill()

    def kill_later(self, requests: int, wait_s: float) -> bool:
        """Start a finalize that dies `wait_s` after its n-th answer; False if it ended before."""
        before = self._requests()
        process = self.start()
        until(lambda: self._requests() >= before + requests or process.poll() is not None)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        process.kill()
        code, _, err = ended(process)
        assert code in {0, -signal.SIGKILL}, err
        self.look_after_a_kill()
        return code != 0

    def look_after_a_kill(self) -> None:
        """Note what readers find, and check that the row does not claim what nobody proved."""
        self.seen.append(self.readers_see())
        if self.app.row(self.job.id)["status"] == "completed":
            proof = f"/api/models/{self.repo_id}/tree/{self.hub.repo(self.repo_id).head()}"
            assert [one for one in self.hub.requests if one.path == proof and one.status == 200]

    def readers_see(self) -> Tree | None:
        """The files on the branch, if anybody could load a model from there."""
        repo = self.hub.repos.get(self.repo_id)
        tree = repo.resolve("main").tree if repo else {}
        return tree if set(tree) - {".gitattributes"} else None

    def commits_of_the_job(self) -> list[str]:
        """All commits this job ever made, newest first."""
        every = reversed(self.hub.repo(self.repo_id).every_commit())
        return [commit.oid for commit in every if f"Job-Id: {self.job.id}" in commit.message]

    def assert_converged(self, answer: dict[str, Any], *, publications: int = 1) -> None:
        """Compare the end of the story with what it must be.

        Args:
            answer: what the last finalize said.
            publications: how many different models the job published.
        """
        repo = self.hub.repo(self.repo_id)
        head = repo.resolve("main")
        mine = self.commits_of_the_job()
        assert len(mine) == publications
        assert mine[0] == head.oid == answer["commit"]
        assert {commit.oid for commit in repo.every_commit()} - {*mine, *self.older} <= {self._first_commit()}
        self._assert_same_as_disk(head.tree, head.message)
        older, *between = self.seen
        assert all(tree in (older, *self._trees(mine)) for tree in between)
        assert repo.tags[f"job-{self.job.id[:8]}"] == head.oid
        self._assert_row(answer)

    def _assert_same_as_disk(self, tree: Tree, message: str) -> None:
        files = {path.name: path for path in self.folder.iterdir() if path.is_file()}
        names = set(files) - NEVER_PUBLISHED | {"README.md", "finalize.json"} | self.plots
        assert set(tree) == names | {".gitattributes"}
        content = {name: self.hub.read(self.repo_id, name) for name in names}
        for name in set(files) - NEVER_PUBLISHED - MADE_HERE:
            assert content[name] == files[name].read_bytes(), name
        manifest = json.loads(content.pop("finalize.json"))
        assert {one["path"]: (one["size"], one["sha256"]) for one in manifest["files"]} == {
            name: (len(found), hashlib.sha256(found).hexdigest()) for name, found in content.items()
        }
        assert f"Finalize-Id: {manifest['finalize_id']}" in message

    def _assert_row(self, answer: dict[str, Any]) -> None:
        row = self.app.row(self.job.id)
        url = f"{self.hub.endpoint}/{self.repo_id}"
        assert (answer["result"], answer["published"], answer["model_url"]) == ("completed", True, url)
        assert answer["job"] == {"id": self.job.id, "status": "completed"}
        assert (row["status"], row["progress"], row["model_url"]) == ("completed", 100, url)
        assert row["completed_at"]
        assert row["error_message"] is None
        events = "select created_at from model_upload_events where job_id = %s and to_status = 'completed'"
        (completed,) = self.app.sql(events, self.job.id)
        published = self.hub.repo(self.repo_id).resolve(self.commits_of_the_job()[-1])
        assert completed["created_at"] >= published.date
        of_commit = (
            "select event from model_upload_events where job_id = %s and commit_sha = %s order by event"
        )
        told = [row["event"] for row in self.app.sql(of_commit, self.job.id, answer["commit"])]
        assert told == ["committed", "verified"]

    def _trees(self, oids: list[str]) -> list[Tree]:
        return [self.hub.repo(self.repo_id).resolve(oid).tree for oid in oids]

    def _first_commit(self) -> str:
        return self.hub.repo(self.repo_id).commits()[-1].oid

    def _requests(self) -> int:
        return sum(len(server.requests) for server in self.servers.values())

    def _trained(self, model: str) -> Path:
        folder = self.home / model
        shutil.copytree(FIXTURES / model, folder)
        retrain(folder, self.die)
        return folder


@pytest.fixture
def stage(hub: Hub, app: JobsApp, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`stage(model, over=older)`: the next repo, job and pod, with weights nobody has published yet."""
    made: list[Stage] = []

    def make(model: str, over: str | None = None) -> Stage:
        made.append(Stage(hub, app, tmp_path / f"stage-{len(made)}", over=over, model=model))
        return made[-1]

    yield make
    for one in made:
        one.close()
