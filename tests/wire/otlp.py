"""A collector of spans: OTLP over HTTP, as every vendor takes it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from agent.sandbox.loopback import LoopbackServer
from agent.sandbox.loopback.answers import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.sandbox.loopback.body import Intake
    from agent.sandbox.loopback.refused import RefusedError


@dataclass(frozen=True)
class Seen:
    """One span as it arrived; ids are in hex, an empty `parent` is none."""

    name: str
    trace: str
    id: str
    parent: str
    begun_ns: int
    ended_ns: int
    error: str | None
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector(LoopbackServer):
    """Takes spans at `/v1/traces` of `endpoint`; `spans` holds them as they came."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Seen] = []
        self.raw = b""
        self._guard = threading.Lock()

    def routes(self, intake: Intake) -> list[web.RouteDef]:
        async def take(request: web.Request) -> Answer:
            body = await intake.read(request)
            with self._guard:
                self.raw += body
                self.spans += list(_read(service.ExportTraceServiceRequest.FromString(body)))
            return Answer(headers={"Content-Type": "application/x-protobuf"})

        return [web.post("/v1/traces", take)]

    def refusal(self, error: RefusedError) -> Answer:
        return json_answer({"message": error.message}, status=error.status, headers=error.headers)

    def kind_of(self, path: str) -> str:
        return path

    def user_of(self, request: web.Request) -> str | None:
        return request.headers.get("x-api-key")

    def marks(self, request: web.Request) -> Mapping[str, str]:
        return {}

    @property
    def whole(self) -> Seen:
        """The one span that has its parent elsewhere, or none."""
        ids = {one.id for one in self.spans}
        [found] = [one for one in self.spans if one.parent not in ids]
        return found

    @property
    def steps(self) -> list[Seen]:
        """The children of that one, as they began."""
        whole = self.whole
        found = [one for one in self.spans if one.parent == whole.id]
        assert len(found) == len(self.spans) - 1
        return sorted(found, key=lambda one: one.begun_ns)


def _read(request: service.ExportTraceServiceRequest) -> Any:
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                assert not span.events, "the words of an error stay here"
                yield Seen(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    begun_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
                    attributes=_plain(span.attributes),
                    resource=_plain(of_resource.resource.attributes),
                )


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
