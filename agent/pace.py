"""How far apart calls to one server are, once it said that there are too many.

Many pods end at the same time and share one token, and so one limit of the Hub. A pod that only
repeats what was refused keeps the crowd as large as it is. A pod that also spreads all its later calls
makes room for the others: everybody's gap widens until the crowd together asks as often as the server
allows, without anybody knowing how many they are.

The numbers come from 100 simulated pods of 13 calls each, on a server that allows 20 calls a second
(`tests/unit/test_pace.py`): 1.2 calls sent for each that passes, 2.2 without a pace. Growing by 2
instead of 4 takes a pod twice as many refusals to find its gap; narrowing faster than by 0.7 invites
new ones, slower leaves the last pods waiting when the crowd has gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_GAP_S = 2.0
LONGEST_GAP_S = 30.0
NO_GAP_S = 0.1  # a gap below this is none
WIDER, NARROWER = 4.0, 0.7


class Pace:
    """The gap between our calls to one server: none until a call is refused for being one too many.

    It never sleeps itself: who calls asks for the turn, and waits within its own patience.

    Args:
        clock: seconds, from any start.
        jitter: numbers from 0 to 1; without it pods that were refused together come again together.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._clock, self._jitter = clock, jitter
        self._turn = clock()
        self.gap_s = 0.0

    def turn_s(self) -> float:
        """Seconds until the next call may be sent; 0 when it may be sent now."""
        return max(0.0, self._turn - self._clock())

    def refused(self, retry_after_s: float) -> None:
        """Widen the gap: the server said 429, and perhaps when it listens again.

        Our turn is a gap after that moment, not at it: everybody who was refused heard of the same one.
        """
        self.gap_s = min(LONGEST_GAP_S, max(FIRST_GAP_S, WIDER * self.gap_s))
        self._turn = self._clock() + retry_after_s + self._jittered()

    def passed(self) -> None:
        """Narrow the gap: a call was let through."""
        self.gap_s *= NARROWER
        if self.gap_s < NO_GAP_S:
            self.gap_s = 0.0
        self._turn = self._clock() + self._jittered()

    def _jittered(self) -> float:
        return self.gap_s * (0.5 + self._jitter())
