"""Telling everybody in the time there is: all once, then those again who could not be told, with pauses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.log import get_logger
from agent.notify.failure import NotToldError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOTAL_S = 60.0  # the model is safe and the answer given: who waits now only waits for the end of the pod
LONGEST_CALL_S = LONGEST_WAIT_S = 10.0
FIRST_WAIT_S = 1.0
ROUNDS = 5


class Recipient(Protocol):
    """Somebody who is to be told; `name` is what the log calls them."""

    @property
    def name(self) -> str: ...  # noqa: D102 - told above

    def tell(self, left_s: float) -> str | None:
        """Tell them within so many seconds, and return what is worth a word in the log.

        Raises:
            NotToldError: they were not told, or nobody knows.
        """


@dataclass
class Budget:
    """The seconds that all messages together may take."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    total_s: float = TOTAL_S
    _over: float = field(init=False)

    def __post_init__(self) -> None:
        self._over = self.clock() + self.total_s

    def left_s(self) -> float:
        """What is left of them."""
        return self._over - self.clock()


def deliver(recipients: Sequence[Recipient], budget: Budget) -> None:
    """Tell each; one line in the log for whoever was told, and for whoever was not."""
    waiting, wait_s = list(recipients), FIRST_WAIT_S
    for last in [False] * (ROUNDS - 1) + [True]:
        again, pauses = [], [wait_s]
        for index, recipient in enumerate(waiting):
            # The silence of one must not take the time of the next.
            share_s = min(LONGEST_CALL_S, budget.left_s() / (len(waiting) - index))
            failure = _try(recipient, share_s)
            if failure is None:
                continue
            asked_s = failure.wait_s or 0.0
            if last or not failure.later or asked_s > LONGEST_WAIT_S or asked_s >= budget.left_s():
                _give_up(recipient, failure)
            else:
                again.append((recipient, failure))
                pauses.append(asked_s)
        if not again:
            return
        if max(pauses) >= budget.left_s():
            for recipient, failure in again:
                _give_up(recipient, failure)
            return
        budget.sleep(max(pauses))
        waiting, wait_s = [recipient for recipient, _ in again], 2 * wait_s


def _try(recipient: Recipient, left_s: float) -> NotToldError | None:
    try:
        said = recipient.tell(left_s)
    except NotToldError as failure:
        return failure
    if said:
        get_logger().info("notified", who=recipient.name, how=said)
    return None


def _give_up(recipient: Recipient, failure: NotToldError) -> None:
    perhaps = {"perhaps": "it may have arrived all the same"} if failure.perhaps else {}
    get_logger().warning("not notified", who=recipient.name, because=failure.words, **perhaps)
