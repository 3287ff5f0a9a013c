"""What went over the wire, and how fast it may go."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass
class Request:
    """One request as the server saw it; `sent_bytes` grows while a download is under way.

    Header names are in lower case.
    """

    method: str
    path: str
    query: str
    kind: str  # the part of the service that answers it, in the service's own terms
    headers: dict[str, str]
    user: str | None = None
    index: int = -1
    status: int | None = None  # None: no answer left
    received_bytes: int = 0
    sent_bytes: int = 0


class ByteRate:
    """A bandwidth shared by all bodies: `take(n)` returns once n more bytes may have arrived.

    The reader waits before it reads on, so TCP slows the sender down; nothing piles up here.
    """

    def __init__(
        self,
        bytes_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bytes_s = bytes_s
        self.taken = 0
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Account for `count` bytes and wait until the line is free again."""
        self.taken += count
        if not self.bytes_s:
            return
        now = self._clock()
        self._free_at = max(now, self._free_at) + count / self.bytes_s
        await self._sleep(self._free_at - now)


class CallRate:
    """A token bucket over API calls; one second's worth may come at once."""

    def __init__(self, calls_s: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls_s = calls_s
        self._clock = clock
        self._burst = max(1.0, calls_s or 0.0)
        self._left = self._burst
        self._at = clock()

    def admit(self) -> int | None:
        """Return None if the call may pass, else the whole seconds after which to come again."""
        if not self.calls_s:
            return None
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self.calls_s)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return None
        return max(1, math.ceil((1 - self._left) / self.calls_s))

    def headers(self, wait_s: int | None) -> dict[str, str]:
        """Return RateLimit and RateLimit-Policy as the Hub words them, with Retry-After for a refusal."""
        if not self.calls_s:
            return {}
        left = 0 if wait_s else int(self._left)
        headers = {
            "RateLimit": f'"api";r={left};t={wait_s or 1}',
            "RateLimit-Policy": f'"fixed window";"api";q={int(self._burst)};w=1',
        }
        return headers | ({"Retry-After": str(wait_s)} if wait_s else {})
