"""Why somebody was not told."""

from __future__ import annotations


class NotToldError(Exception):
    """One message that was not delivered, in the words of whoever refused it.

    Args:
        words: what was answered, or what became of the connection.
        later: whether the same may succeed in a moment.
        perhaps: whether it may have arrived all the same: the answer was lost, or none came in time.
        wait_s: how long we were asked to wait before we ask again.
    """

    def __init__(
        self, words: str, *, later: bool, perhaps: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(words)
        self.words, self.later, self.perhaps, self.wait_s = words, later, perhaps, wait_s
