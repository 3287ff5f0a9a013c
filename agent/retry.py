"""When to ask again, and when to stop: one classifier, one policy for each kind of call.

A finalize has *patience*: it gives up when nothing moved for `stall_s` (no byte, no answer), or
when a hard deadline passed. Every policy draws on that one patience, so that retries nested in
retries cannot multiply.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import tenacity

from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.pace import Pace

T = TypeVar("T")

OUT_OF_PATIENCE = "nothing moved for AGENT_STALL_S, or AGENT_DEADLINE_S is over"
LONGEST_RETRY_AFTER_S = 120.0  # a server that asks for more is asked again sooner
TOO_MANY_REQUESTS = 429
_TRANSIENT_STATUS = {408, TOO_MANY_REQUESTS}
_SERVER_ERROR = 500


class RemoteFailure(Exception):  # noqa: N818 - one failed call, not yet anybody's error
    """One call to a remote that did not succeed, in the server's own words.

    `status` is None when no complete answer arrived: then whether the server acted is unknown.
    `final` marks a server error that the same call will meet again, whatever its status says.
    """

    def __init__(
        self,
        words: str,
        *,
        status: int | None,
        code: str | None = None,
        retry_after_s: float | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(words)
        self.final = final
        self.words = words
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later: 408, 429, 5xx, and every kind of broken answer."""
        if self.final:
            return False
        return self.status is None or self.status in _TRANSIENT_STATUS or self.status >= _SERVER_ERROR


@dataclass(frozen=True)
class Policy:
    """How often and how fast one kind of call is repeated; `why` is the reason for the numbers."""

    name: str
    attempts: int
    first_wait_s: float
    longest_wait_s: float
    why: str


READ = Policy("read", 60, 0.5, 30.0, "free of side effects: only patience limits it")
WRITE = Policy("write", 60, 1.0, 30.0, "idempotent by construction: create-if-missing, tag, branch")
COMMIT = Policy("commit", 30, 2.0, 60.0, "each round first looks whether the last one arrived; 128 an hour")
CONTENT = Policy("content", 20, 2.0, 60.0, "a round re-reads the file; storage remembers what it has")
ROW_LOOK = Policy(
    "row-look", 4, 0.5, 4.0, "before the upload: the model's safety does not wait for a database"
)
ROW_WRITE = Policy("row", 60, 1.0, 30.0, "compare-and-set with the same values: a replay changes nothing")
POLICIES = (READ, WRITE, COMMIT, CONTENT, ROW_LOOK, ROW_WRITE)


@dataclass
class Patience:
    """How long a finalize keeps trying, and its only clock.

    Args:
        stall_s: seconds without any progress after which to give up.
        deadline_s: seconds from the start after which to give up whatever moves; None is never.

    Attributes:
        retries: how often was asked again, by kind of call and cause.
    """

    stall_s: float
    deadline_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    retries: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        self.started = self._moved = self._began = self.clock()

    def progress(self) -> None:
        """Note that something moved."""
        self._moved = self.clock()

    def left_s(self) -> float:
        """Seconds until we give up if nothing moves; negative when that moment has passed."""
        return self._left_since(self._moved)

    def attempt_left_s(self) -> float:
        """Like `left_s`, for the attempt under way: what was silent before it began is not its fault."""
        return self._left_since(max(self._moved, self._began))

    def _left_since(self, moved: float) -> float:
        left = moved + self.stall_s - self.clock()
        if self.deadline_s is not None:
            left = min(left, self.started + self.deadline_s - self.clock())
        return left

    def call(self, policy: Policy, attempt: Callable[[], T], pace: Pace | None = None) -> T:
        """Return what `attempt` returns, asking again while its failure is transient.

        A 429 is progress, as every answer is: the server is well, and we are in its queue. Counted as
        silence, a queue longer than `stall_s` would end in failures, and each rerun would join it at its
        end. A server that never lets us in ends the call by the policy's attempts, or by the deadline.

        Args:
            policy: the schedule for this kind of call.
            attempt: one attempt.
            pace: of the server that is asked: each attempt waits for its turn.

        Raises:
            RemoteFailure: the last one, when it is permanent, attempts are used up, or the next
                wait would outlast the patience.
        """

        def paced() -> T:
            self._began = self.clock()
            try:
                result = attempt()
            except RemoteFailure as failure:
                if failure.status == TOO_MANY_REQUESTS:
                    self.progress()
                    if pace:
                        pace.refused(min(failure.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))
                raise
            if pace:
                pace.passed()
            return result

        def wait_s(state: tenacity.RetryCallState) -> float:
            longest = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** (state.attempt_number - 1))
            failure = state.outcome.exception() if state.outcome else None
            asked = failure.retry_after_s if isinstance(failure, RemoteFailure) else None
            jittered = longest * (0.5 + 0.5 * self.jitter())
            turn_s = pace.turn_s() if pace else 0.0
            return max(jittered, min(asked or 0.0, LONGEST_RETRY_AFTER_S), turn_s)

        def spent(state: tenacity.RetryCallState) -> bool:
            return state.attempt_number >= policy.attempts or state.upcoming_sleep >= self.left_s()

        def announce(state: tenacity.RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome else None
            self.retries[policy.name, _cause(failure)] += 1
            get_logger().warning(
                "asking again",
                call=policy.name,
                because=str(failure),
                wait_s=round(state.upcoming_sleep, 1),
                attempt=state.attempt_number,
            )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, RemoteFailure) and e.transient),
            wait=wait_s,
            stop=spent,
            sleep=self.sleep,
            before_sleep=announce,
            reraise=True,
        )
        if pace:
            self._await_turn(pace)
        result = retrying(paced)
        self.progress()
        return result

    def _await_turn(self, pace: Pace) -> None:
        """Wait until the next call may be sent, unless that outlasts the patience."""
        wait_s = pace.turn_s()
        if wait_s == 0.0:
            return
        if wait_s >= self.left_s():
            raise RemoteFailure(
                "no time is left to ask as slowly as the server wants", status=TOO_MANY_REQUESTS
            )
        get_logger().info("asking more slowly, as the server wants", wait_s=round(wait_s, 1))
        self.sleep(wait_s)


def _cause(failure: BaseException | None) -> str:
    """Why a call is repeated, in as few words as a metric's label may have."""
    status = failure.status if isinstance(failure, RemoteFailure) else None
    return f"http_{status}" if status else "no_answer"
