from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from agent import retry
from agent.errors import Interrupted
from agent.retry import (
    COMMIT,
    CONTENT,
    POLICIES,
    READ,
    ROW_LOOK,
    ROW_WRITE,
    WRITE,
    Patience,
    Policy,
    RemoteFailure,
)

FOR_EVER = 1e9
QUICK = Policy("quick", 5, 1.0, 4.0, "a test")


class Server:
    """Answers each call with the next of `answers`; an exception is raised, the last one repeats."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), 0

    def __call__(self):
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        if isinstance(answer, BaseException):
            raise answer
        return answer


def failure(status=503, **more):
    return RemoteFailure("it broke", status=status, **more)


@pytest.fixture
def patience(clock):
    def make(stall_s=FOR_EVER, deadline_s=None, jitter=1.0):
        return Patience(stall_s, deadline_s, clock=clock, sleep=clock.sleep, jitter=lambda: jitter)

    return make


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503, 504, 520, 599])
def test_a_broken_answer_or_an_overloaded_server_is_asked_again(status):
    assert failure(status).transient is True


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 410, 412, 413, 422, 451, 200, 304])
def test_a_refusal_is_never_asked_again(status, patience, clock):
    server = Server(failure(status), "too late")
    with pytest.raises(RemoteFailure):
        patience().call(READ, server)
    assert (server.calls, clock.slept) == (1, [])


def test_a_failure_keeps_the_servers_own_words():
    error = RemoteFailure("the Hub answered 429", status=429, code="RateLimited", retry_after_s=7.0)
    assert (str(error), error.words) == ("the Hub answered 429", "the Hub answered 429")
    assert (error.status, error.code, error.retry_after_s) == (429, "RateLimited", 7.0)


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("x"), OSError("disk"), Interrupted(15)])
def test_what_is_not_a_remote_failure_passes_at_once(error, patience, clock):
    server = Server(error, "too late")
    with pytest.raises(type(error)):
        patience().call(READ, server)
    assert (server.calls, clock.slept) == (1, [])


def test_the_policies_are_these():
    assert POLICIES == (READ, WRITE, COMMIT, CONTENT, ROW_LOOK, ROW_WRITE)
    names = ["read", "write", "commit", "content", "row-look", "row"]
    assert [policy.name for policy in POLICIES] == names
    assert all(policy.why for policy in POLICIES)


@pytest.mark.parametrize(
    ("policy", "attempts", "slowest_s", "fastest_s"),
    [
        (READ, 60, 1621.5, 810.75),
        (WRITE, 60, 1651.0, 825.5),
        (COMMIT, 30, 1502.0, 751.0),
        (CONTENT, 20, 902.0, 451.0),
        (ROW_LOOK, 4, 3.5, 1.75),
        (ROW_WRITE, 60, 1651.0, 825.5),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_policy_asks_this_often_over_this_long(policy, attempts, slowest_s, fastest_s, patience, clock):
    for jitter, total_s in ((1.0, slowest_s), (0.0, fastest_s)):
        server, before = Server(failure()), clock.now
        with pytest.raises(RemoteFailure):
            patience(jitter=jitter).call(policy, server)
        assert server.calls == attempts
        assert clock.now - before == pytest.approx(total_s)


def test_commits_stay_below_the_hubs_limit_of_128_an_hour():
    assert COMMIT.attempts < 128


def test_waits_double_up_to_the_longest(patience, clock):
    with pytest.raises(RemoteFailure):
        patience().call(QUICK, Server(failure()))
    assert clock.slept == [1.0, 2.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("jitter", "slept"),
    [(0.0, [0.5, 1.0, 2.0, 2.0]), (0.5, [0.75, 1.5, 3.0, 3.0]), (1.0, [1.0, 2.0, 4.0, 4.0])],
)
def test_jitter_takes_away_half_at_most_and_adds_nothing(jitter, slept, patience, clock):
    with pytest.raises(RemoteFailure):
        patience(jitter=jitter).call(QUICK, Server(failure()))
    assert clock.slept == slept


def test_the_default_jitter_differs_from_wait_to_wait(clock):
    with pytest.raises(RemoteFailure):
        Patience(FOR_EVER, clock=clock, sleep=clock.sleep).call(READ, Server(failure()))
    longest = clock.slept[6:]
    assert len(set(longest)) > 40
    assert all(15.0 <= wait <= 30.0 for wait in longest)


def test_the_answer_comes_back_as_soon_as_there_is_one(patience, clock):
    kept = patience()
    server = Server(failure(), failure(None), "answer")
    assert kept.call(QUICK, server) == "answer"
    assert (server.calls, clock.slept) == (3, [1.0, 2.0])
    assert kept.retries == {("quick", "http_503"): 1, ("quick", "no_answer"): 1}


def test_an_answer_of_none_is_an_answer(patience):
    server = Server(None)
    assert patience().call(QUICK, server) is None
    assert server.calls == 1


def test_the_last_failure_is_the_one_that_is_raised(patience):
    last = failure(500)
    with pytest.raises(RemoteFailure) as raised:
        patience().call(QUICK, Server(failure(), failure(), failure(), failure(), last))
    assert raised.value is last


def test_a_refusal_after_retries_ends_them(patience, clock):
    server = Server(failure(), failure(403), "too late")
    with pytest.raises(RemoteFailure) as raised:
        patience().call(QUICK, server)
    assert (raised.value.status, server.calls, clock.slept) == (403, 2, [1.0])


def test_each_retry_is_announced_with_its_reason(patience):
    with capture_logs() as logs:
        patience().call(QUICK, Server(failure(retry_after_s=2.04), "answer"))
    assert logs == [
        {
            "event": "asking again",
            "log_level": "warning",
            "call": "quick",
            "because": "it broke",
            "wait_s": 2.0,
            "attempt": 1,
        }
    ]


def test_a_server_that_names_a_wait_is_given_it(patience, clock):
    patience().call(QUICK, Server(failure(429, retry_after_s=7.0), "answer"))
    assert clock.slept == [7.0]


def test_a_server_cannot_make_us_hurry(patience, clock):
    patience().call(QUICK, Server(failure(429, retry_after_s=0.1), "answer"))
    assert clock.slept == [1.0]


@pytest.mark.parametrize("asked_s", [121.0, 3600.0, 1e12])
def test_a_server_that_asks_for_too_much_is_asked_sooner(asked_s, patience, clock):
    patience().call(QUICK, Server(failure(429, retry_after_s=asked_s), "answer"))
    assert clock.slept == [120.0]


def test_the_wait_of_one_answer_is_not_the_wait_of_the_next(patience, clock):
    patience().call(QUICK, Server(failure(429, retry_after_s=50.0), failure(), "answer"))
    assert clock.slept == [50.0, 2.0]


def test_patience_ends_when_nothing_moved_for_so_long(patience, clock):
    kept = patience(stall_s=10.0)
    assert kept.left_s() == 10.0
    clock.now += 9.0
    assert kept.left_s() == 1.0
    clock.now += 2.0
    assert kept.left_s() == -1.0


def test_progress_renews_patience(patience, clock):
    kept = patience(stall_s=10.0)
    clock.now += 9.0
    kept.progress()
    assert kept.left_s() == 10.0


def test_progress_does_not_move_the_deadline(patience, clock):
    kept = patience(stall_s=10.0, deadline_s=12.0)
    clock.now += 9.0
    kept.progress()
    assert kept.left_s() == 3.0
    clock.now += 4.0
    kept.progress()
    assert kept.left_s() == -1.0


def test_a_deadline_further_away_than_the_stall_changes_nothing(patience):
    assert patience(stall_s=10.0, deadline_s=100.0).left_s() == 10.0


def test_a_wait_that_would_outlast_the_stall_is_not_begun(patience, clock):
    server = Server(failure())
    with pytest.raises(RemoteFailure):
        patience(stall_s=3.5).call(QUICK, server)
    assert (clock.slept, server.calls) == ([1.0, 2.0][:2], 3)
    assert clock.now == 1003.0


def test_a_wait_that_would_end_exactly_with_the_patience_is_not_begun(patience, clock):
    with pytest.raises(RemoteFailure):
        patience(stall_s=3.0).call(QUICK, Server(failure()))
    assert clock.slept == [1.0]


def test_a_wait_that_would_outlast_the_deadline_is_not_begun(patience, clock):
    with pytest.raises(RemoteFailure):
        patience(deadline_s=3.5).call(QUICK, Server(failure()))
    assert clock.slept == [1.0, 2.0]


def test_a_long_retry_after_counts_against_the_patience_before_it_is_waited(patience, clock):
    server = Server(failure(429, retry_after_s=60.0), "too late")
    with pytest.raises(RemoteFailure):
        patience(stall_s=30.0).call(QUICK, server)
    assert (clock.slept, server.calls) == ([], 1)


def test_a_call_is_tried_once_even_when_patience_is_at_its_end(patience, clock):
    kept = patience(stall_s=10.0)
    clock.now += 1000.0
    assert kept.call(QUICK, Server("answer")) == "answer"
    assert kept.left_s() == 10.0


def test_an_answer_is_progress_and_a_failure_is_none(patience, clock):
    kept = patience(stall_s=100.0)
    clock.now += 50.0
    with pytest.raises(RemoteFailure):
        kept.call(QUICK, Server(failure(403)))
    assert kept.left_s() == 50.0
    kept.call(QUICK, Server("answer"))
    assert kept.left_s() == 100.0


def test_bytes_that_move_during_a_call_keep_it_alive(patience, clock):
    kept = patience(stall_s=2.5)

    def moving():
        moving.calls += 1
        kept.progress()
        if moving.calls < 4:
            raise failure()
        return "answer"

    moving.calls = 0
    assert kept.call(Policy("slow", 10, 2.0, 2.0, "a test"), moving) == "answer"
    assert clock.slept == [2.0, 2.0, 2.0]


def test_nested_calls_draw_on_one_patience(patience, clock):
    kept = patience(stall_s=10.0)
    inner = Server(failure())
    with pytest.raises(RemoteFailure):
        kept.call(QUICK, lambda: kept.call(QUICK, inner))
    assert clock.now - 1000.0 < 10.0
    assert sum(clock.slept) < 10.0


def test_the_numbers_of_the_module_are_the_documented_ones():
    assert retry.LONGEST_RETRY_AFTER_S == 120.0
    assert retry.TOO_MANY_REQUESTS == 429


def test_an_attempt_is_not_charged_for_the_silence_before_it(clock):
    patience = Patience(10, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    clock.now += 25
    left = []

    def attempt():
        left.append((patience.left_s(), patience.attempt_left_s()))
        clock.now += 4
        left.append((patience.left_s(), patience.attempt_left_s()))

    patience.call(READ, attempt)
    assert left == [(-15, 10), (-19, 6)]
    assert patience.left_s() == patience.attempt_left_s() == 10


def test_no_attempt_outlasts_the_deadline(clock):
    patience = Patience(10, 30, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    clock.now += 25
    left = []
    patience.call(READ, lambda: left.append(patience.attempt_left_s()))
    assert left == [5]
