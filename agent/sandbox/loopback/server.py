"""A server on 127.0.0.1 in a thread of its own; what it serves, a subclass says."""

import asyncio
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import ClassVar, Self

from aiohttp import web

from agent.sandbox.loopback.answers import Answer
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.exchange import Exchange, Handler
from agent.sandbox.loopback.faults import Faults
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.traffic import ByteRate, CallRate, Request

_READ_BUFFER_BYTES = 2**20
_THROTTLED_SOCKET_BYTES = 2**17
_SHUTDOWN_S = 0.1


class LoopbackServer(ABC):
    """A service running between `start` and `close` or inside `with`.

    Args:
        rate_bytes_s: bandwidth that all request bodies share.
        latency_s: pause before each answer.
        calls_s: limited calls per second; more are answered 429.
        port: where to listen; 0 takes a free port.

    Attributes:
        faults: misfortunes in force.
        requests: every request, in the order of the answers.
        endpoint: base address, known after `start`.
        closed_endpoint: an address on which every connection is refused.
    """

    limited: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        rate_bytes_s: float | None = None,
        latency_s: float = 0.0,
        calls_s: float | None = None,
        port: int = 0,
    ) -> None:
        self.endpoint = ""
        self.closed_endpoint = ""
        self.faults = Faults()
        self.requests: list[Request] = []
        self.rate = ByteRate(rate_bytes_s)
        self.calls = CallRate(calls_s)
        self.latency_s = latency_s
        self._port = port
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @abstractmethod
    def routes(self, intake: Intake) -> list[web.RouteDef]:
        """What is served."""

    @abstractmethod
    def refusal(self, error: RefusedError) -> Answer:
        """Put a refusal into the service's words."""

    @abstractmethod
    def kind_of(self, path: str) -> str:
        """Sort a path into the part of the service that answers it."""

    @abstractmethod
    def user_of(self, request: web.Request) -> str | None:
        """Name who asks, for the record."""

    @abstractmethod
    def marks(self, request: web.Request) -> Mapping[str, str]:
        """Headers that every answer carries."""

    def forget(self) -> None:  # noqa: B027 - most services have nothing to lose
        """Lose what nobody has committed."""

    def start(self) -> Self:
        """Listen on a free port; returns once requests are answered."""
        self._listener = _bind(self._port)
        self._listener.listen(128)
        if self.rate.bytes_s:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _THROTTLED_SOCKET_BYTES)
        self._closed_port = _bind(0)  # bound, never listening: every connection to it is refused
        self.endpoint, self.closed_endpoint = _url(self._listener), _url(self._closed_port)
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def close(self) -> None:
        """Stop, and end requests under way."""
        if self._thread and self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._closed_port.close()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()  # a server that could not start must not leave `start` waiting

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        intake = Intake(self.rate)
        exchange = Exchange(self, intake)

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await exchange.run(request, handler)

        app = web.Application(middlewares=[middleware])
        app.add_routes(self.routes(intake))
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=_SHUTDOWN_S, read_bufsize=_READ_BUFFER_BYTES
        )
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        self._ready.set()
        await self._stop.wait()
        exchange.closing.set()
        await runner.cleanup()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _url(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}"
