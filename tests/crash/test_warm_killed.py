"""kill -9 of the warm upload, or of the run that started it, at every request it makes: nothing is lost."""

from __future__ import annotations

import os
import random
import signal

import pytest

from agent.sandbox.loopback import Fault
from tests.conftest import TOKEN, Pod
from tests.warmed import WEIGHTS, UnderRun, content_bytes, has, is_warm, publications, save_model, weights

SIZE = 5_000_000
KINDS = {"before": False, "after": True}
SAMPLED = 3


class Killed:
    """A training in a pod of its own, whose warm upload dies at a request."""

    def __init__(self, hub, app, home, seed):
        home.mkdir()
        self.hub, self.app, self.repo_id = hub, app, f"ada/{home.name}"
        self.job = app.add_job(status="pending")
        environ = app.environ(self.job) | {"HF_REPO_NAME": self.repo_id}
        self.run = UnderRun(Pod(hub, home / "state"), home, job=self.job.id, **environ)
        self.content = weights(SIZE, seed)

    def begin(self):
        """Start the training, and save its model when there is somebody who sends it."""
        self.run.start()
        pid = self.run.until_warm()
        return pid, lambda: save_model(self.run.out, self.content)

    def assert_done_once(self, code, answer):
        assert (code, answer["result"], answer["published"]) == (0, "completed", True), self.run.said
        assert len(publications(self.hub, self.repo_id)) == 1
        assert self.hub.read(self.repo_id, WEIGHTS) == self.content
        assert self.app.row(self.job.id)["status"] == "completed"


@pytest.fixture
def killed(hub, app, tmp_path):
    """`killed(seed)`: the next training, with weights nobody has sent."""
    made = []

    def make(seed):
        made.append(Killed(hub, app, tmp_path / f"pod-{len(made)}", seed))
        return made[-1]

    yield make
    for one in made:
        one.run.close()


@pytest.fixture
def quiet(killed, hub):
    """What a warm upload asks for that nobody disturbs, as "METHOD /path"."""
    one = killed("quiet")
    first = len(hub.requests)
    _, save = one.begin()
    save()
    one.run.until_sent(one.run.out)
    asked = len(hub.requests) - first
    one.assert_done_once(*one.run.end())
    assert any("/v1/xorbs/" in request.path for request in hub.requests[first : first + asked])
    return asked


def kill_it(killed, hub, nth, *, after):
    """The process that sends ahead dies at its n-th request; the same run goes on to its good end."""
    one = killed(f"it {nth} {after}")
    fault = Fault("kill", nth=nth, after=after)
    fault.pid, save = one.begin()
    hub.faults.add(fault)
    save()
    one.run.until(lambda: fault.fired)
    hub.faults.clear()
    one.run.until(lambda: not is_warm(fault.pid))
    first = len(hub.requests)
    was_sent = has(hub, one.content)
    one.assert_done_once(*one.run.end())
    assert was_sent or content_bytes(hub.requests) - content_bytes(hub.requests[:first]) <= 1.1 * SIZE
    assert one.run.diary == ["start", "end"]


def kill_the_run(killed, hub, nth, *, after):
    """The run dies when its warm upload is at the n-th request, and that with it; the next run ends well."""
    one = killed(f"run {nth} {after}")
    pid, save = one.begin()
    kind = "slow" if after else "hang"
    fault = hub.faults.add(Fault(kind, nth=nth, delay_s=0.05))
    save()
    one.run.until(lambda: fault.fired)
    one.run.process.send_signal(signal.SIGKILL)
    one.run.process.wait(60)
    hub.faults.clear()
    one.run.until(lambda: not is_warm(pid))
    assert publications(hub, one.repo_id) == []
    one.run.go_on()
    one.run.start()
    one.assert_done_once(*one.run.ended())


WHO = {"it": kill_it, "the run": kill_the_run}


def moments(count):
    return [(who, nth, after) for who in WHO for nth in range(count) for after in (False, True)]


def survive(killed, hub, some):
    for who, nth, after in some:
        try:
            WHO[who](killed, hub, nth, after=after)
        except BaseException as error:
            error.add_note(f"killed {who} {'after' if after else 'before'} request {nth}")
            raise


def test_a_kill_at_some_requests_costs_nothing_but_time(killed, hub, quiet):
    die = random.Random("some requests of a warm upload")
    for who in WHO:
        survive(killed, hub, die.sample([one for one in moments(quiet) if one[0] == who], SAMPLED))


@pytest.mark.sweep
def test_a_kill_at_any_request_costs_nothing_but_time(killed, hub, quiet):
    survive(killed, hub, moments(quiet))


@pytest.mark.sweep
def test_a_kill_at_any_moment_of_a_long_file_is_gone_on_from(killed, hub, monkeypatch):
    """Half a gigabyte, so that storage has some of it: that is not sent again."""
    die = random.Random("a long file")
    monkeypatch.setattr("tests.crash.test_warm_killed.SIZE", 400_000_000)
    for who in ("it", "the run") * 2:
        one = killed(f"long {die.random()}")
        before, whole = content_bytes(hub.requests), hub.rate.taken
        pid, save = one.begin()
        save()
        at = die.randrange(130_000_000, 300_000_000)
        one.run.until(lambda: hub.rate.taken - whole > at)  # noqa: B023 - used at once
        if who == "it":
            os.kill(pid, signal.SIGKILL)
            code, answer = one.run.end()
        else:
            one.run.process.kill()
            one.run.process.wait(60)
            one.run.until(lambda: not is_warm(pid))  # noqa: B023 - used at once
            one.run.go_on()
            one.run.start()
            code, answer = one.run.ended()
        one.assert_done_once(code, answer)
        assert content_bytes(hub.requests) - before <= 400_000_000 + 3 * 2**26
    assert TOKEN not in one.run.said
