from __future__ import annotations

import heapq
import itertools
import random
import threading
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from agent.pace import Pace
from agent.retry import READ, WRITE, Patience, Policy, RemoteFailure
from agent.sandbox.loopback.traffic import CallRate

FOR_EVER = 1e9
QUICK = Policy("quick", 5, 1.0, 4.0, "a test")


def too_many(retry_after_s=None):
    return RemoteFailure("too many", status=429, retry_after_s=retry_after_s)


class Server:
    """Answers each call with the next of `answers`; an exception is raised, the last one repeats."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), 0

    def __call__(self):
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pace(clock):
    def make(jitter=0.5):
        return Pace(clock, lambda: jitter)

    return make


@pytest.fixture
def patience(clock):
    def make(stall_s=FOR_EVER, deadline_s=None):
        return Patience(stall_s, deadline_s, clock=clock, sleep=clock.sleep, jitter=lambda: 0.5)

    return make


def test_calls_that_are_never_refused_never_wait(pace, patience, clock):
    ours, kept, server = pace(), patience(), Server("answer")
    for _ in range(100):
        assert kept.call(READ, server, ours) == "answer"
    assert (server.calls, clock.slept, ours.gap_s) == (100, [], 0.0)


def test_each_refusal_widens_the_gap_up_to_the_longest(pace):
    ours, gaps = pace(), []
    for _ in range(4):
        ours.refused(0.0)
        gaps.append(ours.gap_s)
    assert gaps == [2.0, 8.0, 30.0, 30.0]


def test_each_call_that_passes_narrows_the_gap_until_there_is_none(pace):
    ours, gaps = pace(), []
    ours.refused(0.0)
    for _ in range(9):
        ours.passed()
        gaps.append(ours.gap_s)
    assert gaps[:2] == pytest.approx([1.4, 0.98])
    assert gaps[-2] >= 0.1
    assert (gaps[-1], ours.turn_s()) == (0.0, 0.0)


def test_a_turn_comes_as_time_passes_whoever_lets_it_pass(pace, clock):
    ours = pace()
    ours.refused(0.0)
    assert ours.turn_s() == 2.0
    clock.now += 1.5
    assert ours.turn_s() == 0.5
    clock.now += 10.0
    assert ours.turn_s() == 0.0


@pytest.mark.parametrize(("jitter", "turn_s"), [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)])
def test_jitter_spreads_turns_over_half_to_one_and_a_half_gaps(jitter, turn_s, pace):
    ours = pace(jitter)
    ours.refused(0.0)
    assert ours.turn_s() == turn_s


def test_pods_that_were_told_the_same_moment_come_one_after_the_other_once_it_is_there(pace):
    turns = []
    for jitter in (0.0, 0.5, 1.0):
        ours = pace(jitter)
        ours.refused(60.0)
        turns.append(ours.turn_s())
    assert turns == [61.0, 62.0, 63.0]


def test_after_a_refusal_later_calls_keep_their_distance_too(pace, patience, clock):
    ours, kept = pace(), patience()
    kept.call(READ, Server(too_many(1.0), "answer"), ours)
    assert clock.slept == [3.0]
    for _ in range(3):
        kept.call(WRITE, Server("answer"), ours)
    assert clock.slept[1:] == pytest.approx([1.4, 0.98, 0.686])


def test_time_that_passed_between_two_calls_is_not_waited_again(pace, patience, clock):
    ours, kept = pace(), patience()
    kept.call(READ, Server(too_many(), "answer"), ours)
    clock.now += 1.0
    kept.call(READ, Server("answer"), ours)
    assert clock.slept[-1] == pytest.approx(0.4)
    clock.now += 5.0
    before = list(clock.slept)
    kept.call(READ, Server("answer"), ours)
    assert clock.slept == before


def test_the_longer_of_backoff_and_turn_is_waited(pace, patience, clock):
    slow = Policy("slow", 5, 40.0, 40.0, "a test")
    patience().call(slow, Server(too_many(), "answer"), pace())
    patience().call(QUICK, Server(too_many(), "answer"), pace())
    assert clock.slept == [30.0, 2.0]


def test_a_server_that_asks_for_too_much_is_asked_sooner_and_still_not_by_all_at_once(pace, patience, clock):
    patience().call(QUICK, Server(too_many(3600.0), "answer"), pace())
    assert clock.slept == [122.0]


@pytest.mark.parametrize("status", [None, 408, 500, 503])
def test_other_failures_do_not_slow_later_calls(status, pace, patience):
    ours = pace()
    patience().call(QUICK, Server(RemoteFailure("it broke", status=status), "answer"), ours)
    assert ours.gap_s == 0.0


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_call_that_failed_otherwise_does_not_narrow_the_gap(status, pace, patience):
    ours = pace()
    ours.refused(0.0)
    one = Policy("one", 1, 1.0, 1.0, "a test")
    with pytest.raises(RemoteFailure):
        patience().call(one, Server(RemoteFailure("no", status=status)), ours)
    assert ours.gap_s == 2.0


@pytest.mark.parametrize("limit", [{"stall_s": 2.0}, {"deadline_s": 2.0}])
def test_a_turn_that_comes_after_the_patience_is_not_waited_for(limit, pace, patience, clock):
    ours, server = pace(), Server("too late")
    ours.refused(0.0)
    with pytest.raises(RemoteFailure) as raised:
        patience(**limit).call(READ, server, ours)
    assert (raised.value.status, raised.value.transient) == (429, True)
    assert (server.calls, clock.slept) == (0, [])


def test_a_turn_after_a_refusal_that_comes_after_the_deadline_is_not_waited_for(pace, patience, clock):
    server = Server(too_many(), "too late")
    with pytest.raises(RemoteFailure, match="too many"):
        patience(deadline_s=2.0).call(QUICK, server, pace())
    assert (server.calls, clock.slept) == (1, [])


def test_a_call_without_a_turn_to_wait_for_is_tried_even_at_the_end_of_patience(pace, patience, clock):
    kept = patience(stall_s=10.0)
    clock.now += 100.0
    assert kept.call(QUICK, Server("answer"), pace()) == "answer"


def test_a_queue_longer_than_the_stall_is_waited_out(pace, patience, clock):
    """429 is an answer: what moves in a queue is not seen, but it moves."""
    answers = [too_many(50.0)] * 10
    assert patience(stall_s=100.0).call(READ, Server(*answers, "answer"), pace()) == "answer"
    assert sum(clock.slept) > 500.0


def test_a_refusal_is_progress_without_a_pace_too(patience, clock):
    kept = patience(stall_s=100.0)
    assert kept.call(QUICK, Server(too_many(60.0), too_many(60.0), "answer")) == "answer"
    assert clock.slept == [60.0, 60.0]


def test_a_server_that_lets_nobody_in_is_given_up_when_the_attempts_are_used_up(pace, patience):
    server = Server(too_many(1.0))
    with pytest.raises(RemoteFailure, match="too many"):
        patience(stall_s=100.0).call(READ, server, pace())
    assert server.calls == READ.attempts


def test_the_deadline_ends_a_queue_too(pace, patience, clock):
    with pytest.raises(RemoteFailure, match="too many"):
        patience(stall_s=100.0, deadline_s=300.0).call(READ, Server(too_many(50.0)), pace())
    assert 200.0 < sum(clock.slept) < 300.0


def test_a_wait_for_the_turn_is_told(pace, patience):
    ours = pace()
    ours.refused(0.0)
    with capture_logs() as logs:
        patience().call(READ, Server("answer"), ours)
    assert logs == [{"event": "asking more slowly, as the server wants", "log_level": "info", "wait_s": 2.0}]


def test_all_calls_of_one_hub_client_share_one_pace(patience, clock):
    from agent.hub.client import HubClient

    client = HubClient(endpoint="http://127.0.0.1:9", token=None, patience=patience())
    client.attempts(READ, Server(too_many(), "answer"))
    assert client.ask(WRITE, "write", Server("answer")) == "answer"
    assert clock.slept == pytest.approx([2.0, 1.4])


class Crowd:
    """Threads of which one runs at a time; time passes only when all of them sleep."""

    def __init__(self):
        self.now, self._order, self._sleepers = 0.0, itertools.count(), []
        self._over = threading.Event()

    def clock(self):
        return self.now

    def sleep(self, seconds):
        woken = self._queue(seconds)
        self._wake_next()
        woken.wait()

    def run(self, jobs):
        for job in jobs:
            threading.Thread(target=self._live, args=[job, self._queue(0.0)], daemon=True).start()
        self._wake_next()
        assert self._over.wait(60)

    def _live(self, job, woken):
        woken.wait()
        try:
            job()
        finally:
            self._wake_next()

    def _queue(self, seconds):
        woken = threading.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        return woken

    def _wake_next(self):
        if not self._sleepers:
            self._over.set()
            return
        self.now, _, woken = heapq.heappop(self._sleepers)
        woken.set()


@dataclass
class SimulatedPod:
    """Makes `CALLS` calls one after the other, with the pauses and the latency of a finalize."""

    crowd: Crowd
    server: CallRate
    seed: int
    stall_s: float = 900.0
    paced: bool = True
    sent: int = 0
    done_s: float | None = None
    random: random.Random = field(init=False)

    def __post_init__(self):
        self.random = random.Random(self.seed)

    def run(self):
        clock, jitter = self.crowd.clock, self.random.random
        patience = Patience(self.stall_s, clock=clock, sleep=self.crowd.sleep, jitter=jitter)
        pace = Pace(clock, jitter) if self.paced else None
        for _ in range(CALLS):
            self.crowd.sleep(self.random.uniform(0.0, 0.3))
            patience.call(READ, self.ask, pace)
        self.done_s = clock()

    def ask(self):
        self.crowd.sleep(self.random.uniform(0.01, 0.05))
        self.sent += 1
        wait_s = self.server.admit()
        if wait_s is not None:
            raise too_many(float(wait_s))


CALLS = 13


def simulate(pods, calls_s, **how):
    crowd = Crowd()
    server = CallRate(calls_s, clock=crowd.clock)
    found = [SimulatedPod(crowd, server, seed, **how) for seed in range(pods)]
    crowd.run([pod.run for pod in found])
    return found


def sent_for_each_that_passed(pods):
    return sum(pod.sent for pod in pods) / (CALLS * len(pods))


@pytest.mark.parametrize(
    ("pods", "calls_s", "most", "within_s"),
    [(1, 20, 1.0, 4), (10, 20, 1.3, 20), (30, 20, 1.3, 60), (100, 20, 1.35, 200), (100, 5, 1.5, 450)],
)
def test_a_crowd_finds_the_rate_that_the_server_allows(pods, calls_s, most, within_s):
    found = simulate(pods, calls_s)
    assert all(pod.done_s for pod in found)
    assert sent_for_each_that_passed(found) <= most
    assert max(pod.done_s for pod in found) <= within_s


def test_without_a_pace_the_same_crowd_asks_more_than_twice_for_each_answer():
    found = simulate(100, 20, paced=False)
    assert sent_for_each_that_passed(found) > 2.0


def test_no_pod_gives_up_because_the_crowd_is_large():
    """A hundred pods, two calls a second: eleven minutes of work for the server, a stall of one minute."""
    found = simulate(100, 2, stall_s=60.0)
    assert all(pod.done_s for pod in found)
    assert max(pod.done_s for pod in found) > 600.0
