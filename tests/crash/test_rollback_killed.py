"""kill -9 of a rollback at every request, before the server acts or after: run again, it ends the same."""

from __future__ import annotations

import json
import random
import shlex
import signal

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import Pod, retrain
from tests.crash.conftest import HUB, ROW, Quiet, ended

SHARES = 4


class Stage:
    """A repo with a good model and a bad one of another job; the pod that goes back to the good one."""

    def __init__(self, hub, app, trained, home):
        self.hub, self.app, self.repo_id = hub, app, f"ada/{home.name}"
        self.servers = {HUB: hub, ROW: app.rest}
        self.job = app.add_job()
        self.pod = Pod(hub, home / "state")
        self.environ = app.environ(self.job) | {"HF_REPO_NAME": self.repo_id}
        die = random.Random(home.name)
        good, self.folder = trained("sft_full", f"{home.name}-good"), trained("orpo_lora", f"{home.name}-bad")
        for folder in (good, self.folder):
            retrain(folder, die)
        self.good = Pod(hub, home / "older").finalize(good, HF_REPO_NAME=self.repo_id).commit
        self.bad = self.pod.finalize(self.folder, **self.environ).commit

    def start(self):
        args = ("rollback", "--to", "previous", "--json")
        return self.pod.command(self.folder, *args, **self.environ)

    def run(self):
        code, out, err = ended(self.start())
        assert code == 0, err
        return json.loads(out)

    def quiet(self):
        first = {name: len(server.requests) for name, server in self.servers.items()}
        self.run()
        return Quiet(*(tuple(self.servers[name].requests[first[name] :]) for name in (HUB, ROW)))

    def kill_at(self, moment):
        fault = self.servers[moment.server].faults.add(Fault("kill", nth=moment.index, after=moment.after))
        process = self.start()
        fault.pid = process.pid
        code, _, err = ended(process)
        self.servers[moment.server].faults.clear()
        assert (fault.fired, code) == (1, -signal.SIGKILL), err
        good, bad = (self.tree(oid) for oid in (self.good, self.bad))
        assert self.tree("main") in (good, bad)

    def tree(self, revision):
        return self.hub.repo(self.repo_id).resolve(revision).tree

    def assert_converged(self, answer):
        every = self.hub.repo(self.repo_id).every_commit()
        [ours] = [commit for commit in every if "Rollback-To" in commit.message]
        assert f"Rollback-To: {self.good}" in ours.message
        assert (answer["commit"], answer["to"]) == (ours.oid, self.good)
        assert answer["result"] in {"rolled-back", "already-there"}
        assert self.tree("main") == self.tree(self.good)
        asked = "select commit_sha from model_upload_events where job_id = %s and event = 'rolled_back'"
        assert [event["commit_sha"] for event in self.app.sql(asked, self.job.id)] == [ours.oid]
        assert self.app.row(self.job.id)["status"] == "completed"


@pytest.fixture
def stage(hub, app, trained, tmp_path):
    """The next repo with its two models."""
    made = []

    def make():
        made.append(Stage(hub, app, trained, tmp_path / f"stage-{len(made)}"))
        return made[-1]

    return make


def mended(stage, moments, subtests):
    for moment in moments:
        with subtests.test(str(moment)):
            one = stage()
            one.kill_at(moment)
            one.assert_converged(one.run())


def test_a_kill_at_a_request_is_mended_by_running_it_again(stage, subtests):
    """Around the commit, at the trail of the job, and some by lot."""
    quiet = stage().quiet()
    assert quiet.row, "the trail is told over the wire"
    around = [moment for moment in quiet.moments() if "/commit/" in moment.path or "_events" in moment.path]
    assert len(around) == 4
    mended(stage, [*around, *random.Random(9).sample(quiet.moments(), 3)], subtests)


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
def test_a_kill_at_any_request_is_mended_by_running_it_again(share, stage, subtests):
    mended(stage, stage().quiet().moments()[share::SHARES], subtests)


def test_a_kill_after_the_commit_is_mended_without_any_memory_of_it(stage, tmp_path):
    """The volume is lost, too: the branch itself tells."""
    one = stage()
    moments = one.quiet().moments()
    [commit] = [moment for moment in moments if "/commit/" in moment.path and moment.after]
    other = stage()
    other.kill_at(commit)
    other.pod.state_dir = tmp_path / "another-volume"
    other.assert_converged(other.run())


def test_two_rollbacks_at_once_make_one_commit(stage, tmp_path):
    """On one volume they take turns; from two machines the head that both saw decides."""
    for volumes in (1, 2):
        one = stage()
        first = one.start()
        if volumes == 2:
            one.pod.state_dir = tmp_path / f"volume-{volumes}"
        second = one.start()
        answers = []
        for process in (first, second):
            code, out, err = ended(process)
            assert code == 0, err
            answers.append(json.loads(out))
        for answer in answers:
            one.assert_converged(answer)


def test_after_a_kill_status_names_the_command_that_goes_on(stage):
    one = stage()
    [commit] = [m for m in one.quiet().moments() if "/commit/" in m.path and not m.after]
    other = stage()
    other.kill_at(commit)
    code, out, err = ended(other.pod.command(other.folder, "status", "--json"))
    assert code == 0, err
    [job] = [job for job in json.loads(out)["jobs"] if job["next"] and "rollback" in job["next"]]
    other.environ |= {"HF_REPO_NAME": "", "HF_REVISION": ""}
    _, *args = shlex.split(job["next"])
    code, out, err = ended(other.pod.command(other.folder, *args, "--json", **other.environ))
    assert code == 0, err
    other.assert_converged(json.loads(out))
