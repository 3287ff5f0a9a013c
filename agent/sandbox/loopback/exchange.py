"""One request, from its arrival to the last byte of the answer: record, faults, limits, errors."""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from aiohttp import web

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.body import RECORD, Intake
from agent.sandbox.loopback.faults import Fault
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.traffic import Request

if TYPE_CHECKING:
    from agent.sandbox.loopback.server import LoopbackServer

_log = logging.getLogger(__name__)
_POLL_S = 0.02

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exchange:
    """The middleware around every route.

    A request is recorded before its answer's first byte leaves, so whoever has the answer finds the record.
    """

    def __init__(self, service: "LoopbackServer", intake: Intake) -> None:
        self._service = service
        self._intake = intake
        self.closing = asyncio.Event()

    async def run(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request, or fail it as ordered."""
        record = request[RECORD] = Request(
            method=request.method,
            path=request.path,
            query=request.query_string,
            kind=self._service.kind_of(request.path),
            headers={name.lower(): value for name, value in request.headers.items()},
            user=self._service.user_of(request),
        )
        fault = self._service.faults.due(f"{record.method} {record.path}", _port_of(request))
        kind = fault.kind if fault else None
        if kind == "reset" or (fault and fault.kill(acted=False)):
            return self._abort(request, record)
        if kind == "hang":
            return await self._hang(request, record)
        try:
            answer = await self._answer(request, handler, fault)
            await self._intake.drain(request)
        except (ConnectionError, web.RequestPayloadError):  # the sender broke off
            return self._abort(request, record)
        except asyncio.CancelledError:
            self._keep(record)
            raise
        await asyncio.sleep(self._service.latency_s)
        if kind == "lost" or (fault and fault.kill(acted=True)):
            return self._abort(request, record)
        return await self._send(request, record, answer, truncated=kind == "truncated")

    async def _answer(self, request: web.Request, handler: Handler, fault: Fault | None) -> Answer:
        if fault and fault.kind == "status":
            return self._ordered(fault)
        if fault and fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
        if fault and fault.kind == "forget":
            await asyncio.to_thread(self._service.forget)
        limited = request[RECORD].kind in self._service.limited
        wait_s = self._service.calls.admit() if limited else None
        if wait_s is None:
            answer = await self._act(request, handler)
        else:
            answer = self._service.refusal(RefusedError(429, "You have reached your rate limit."))
        if limited:
            answer.headers.update(self._service.calls.headers(wait_s))
        return answer

    async def _act(self, request: web.Request, handler: Handler) -> Answer:
        try:
            return cast("Answer", await handler(request))
        except RefusedError as error:
            return self._service.refusal(error)
        except web.HTTPException as error:  # the router's: no such route, or not by this method
            message = f"Sorry, we can't find {request.method} {request.path}."
            return self._service.refusal(RefusedError(error.status, message))
        except (ConnectionError, web.RequestPayloadError):
            raise
        except Exception:  # noqa: BLE001 - a bug here must reach the client as a 500, not as silence
            _log.exception("%s %s", request.method, request.path)
            return self._service.refusal(RefusedError(500, "Internal Error"))

    async def _send(
        self, request: web.Request, record: Request, answer: Answer, *, truncated: bool
    ) -> Answer:
        answer.headers.update(self._service.marks(request))
        answer.content_length = answer.length
        allowed = answer.length // 2 if truncated else answer.length
        record.status = answer.status
        self._keep(record)
        try:
            await answer.prepare(request)
            if request.method != "HEAD":
                async for piece in answer.pieces():
                    part = piece[: allowed - record.sent_bytes]
                    record.sent_bytes += len(part)
                    await answer.write(part)
            if truncated:
                if request.transport:
                    request.transport.close()
            else:
                await answer.write_eof()
        except (RefusedError, OSError):  # content was lost on the way, or the reader has gone
            self._cut(request)
        return answer

    async def _hang(self, request: web.Request, record: Request) -> Answer:
        self._keep(record)
        drained = asyncio.ensure_future(self._intake.drain(request))  # a reader notices when the client goes
        while request.transport and not self.closing.is_set():  # noqa: ASYNC110 - transports raise no event
            await asyncio.sleep(_POLL_S)
        drained.cancel()
        await asyncio.gather(drained, return_exceptions=True)
        self._cut(request)
        return Answer()

    def _ordered(self, fault: Fault) -> Answer:
        headers = dict(fault.headers)
        if fault.retry_after is not None:
            headers["Retry-After"] = str(fault.retry_after)
        if fault.status == 429:  # noqa: PLR2004 - Too Many Requests
            headers["RateLimit"] = f'"api";r=0;t={fault.retry_after or 0}'
        if fault.body is None:
            return self._service.refusal(RefusedError(fault.status, "Injected fault", headers=headers))
        if fault.body.lstrip().startswith("<"):
            headers["Content-Type"] = "text/html; charset=utf-8"
            return Answer(fault.body.encode(), status=fault.status, headers=headers)
        answer = json_answer({}, status=fault.status, headers=headers)
        return Answer(fault.body.encode(), status=fault.status, headers=answer.headers)

    def _abort(self, request: web.Request, record: Request) -> Answer:
        self._keep(record)
        self._cut(request)
        return Answer()

    def _keep(self, record: Request) -> None:
        record.index = len(self._service.requests)
        self._service.requests.append(record)

    @staticmethod
    def _cut(request: web.Request) -> None:
        transport = request.transport
        if transport is None:
            return
        wire = transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with RST
        transport.abort()


def _port_of(request: web.Request) -> int:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return int(peer[1]) if peer else 0
