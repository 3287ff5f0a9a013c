"""The row hears from us while long work goes on, and we hear from it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from agent.errors import AgentError
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from agent.jobs.row import Row

INTERVAL_S = 30.0  # twice in the minute after which a silent job may be taken for lost
_GRACE_S = 0.2  # a signal leaves two seconds for everything


class Heartbeat:
    """A beat every `INTERVAL_S` while inside `with`; `row` is what the last one saw.

    A beat that fails is told in the log and changes nothing else: the work is worth more than its row.

    Args:
        beat: says in the row that we are alive, and returns it; None if there is nothing to keep warm.
    """

    def __init__(self, beat: Callable[[], Row] | None) -> None:
        self._beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.row: Row | None = None

    def __enter__(self) -> Self:
        if self._beat:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; a beat still on its way is a compare-and-set and may arrive late without harm."""
        self._over.set()
        if self._beat:
            self._thread.join(_GRACE_S)

    def _run(self) -> None:
        assert self._beat
        while not self._over.wait(INTERVAL_S):
            try:
                self.row = self._beat()
            except AgentError as error:
                get_logger().warning(
                    "the job row could not be told that the work goes on", because=error.message
                )
            except Exception as error:  # noqa: BLE001 - a thread that dies silently lets the row go stale
                if self._over.is_set():
                    return  # the connection was closed under a late beat
                get_logger().warning("the heartbeat stumbled", because=f"{type(error).__name__}: {error}")
