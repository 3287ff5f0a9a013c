"""Work that goes on beside the story, and whose end is waited for only where it is needed."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Beside(Generic[T]):
    """One call in a thread of its own; nobody has to wait for it, not even the end of the process.

    Args:
        call: what to do. It must leave alone what the story works with meanwhile.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._call = call
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=[self._run], name="beside", daemon=True)
        self._thread.start()

    def result(self) -> T:
        """What the call returned, waited for; what it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            self._error = error
