"""The embedded RunPod: its addresses, its edge, and the handles tests turn."""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from aiohttp import web

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.server import LoopbackServer
from agent.sandbox.runpod import graphql, rest
from agent.sandbox.runpod.pods import Account
from agent.sandbox.runpod.rest import Act, Asked

Api = Literal["v2", "graphql", "v1"]


class RunPodApi(LoopbackServer, Account):
    """RunPod's v2, GraphQL and v1 APIs on 127.0.0.1, running between `start` and `close` or inside `with`.

    They live below `/v2`, `/graphql` and `/v1` of `endpoint`.

    Args:
        port: where to listen; 0 takes a free port.

    Attributes:
        retired: API to the status (404 or 410) it answers everything with.
    """

    def __init__(self, *, port: int = 0) -> None:
        LoopbackServer.__init__(self, port=port)
        Account.__init__(self)
        self.retired: dict[Api, int] = {}

    def routes(self, intake: Intake) -> list[web.RouteDef]:
        """The three APIs; an address of none of them may still be a catastrophe."""
        table: dict[tuple[str, str], Act] = {}
        for api in (rest.V2(self), graphql.GraphQL(self), rest.V1(self)):
            table |= api.table()
        table["*", "/{path:.*}"] = self._stray
        return [
            web.route(method, path, self._behind_the_edge(act, intake))
            for (method, path), act in table.items()
        ]

    def refusal(self, error: RefusedError) -> Answer:
        """Put a refusal into v1's words; ordered faults speak them, too."""
        return json_answer({"error": error.message}, status=error.status, headers=error.headers)

    def kind_of(self, path: str) -> str:
        """Sort a path into v2, graphql, v1 and edge."""
        first = path.split("/")[1]
        return first if first in {"v2", "graphql", "v1"} else "edge"

    def user_of(self, request: web.Request) -> str | None:  # noqa: ARG002 - keys have no names
        """Nobody has a name here."""
        return None

    def marks(self, request: web.Request) -> Mapping[str, str]:  # noqa: ARG002 - it tells nothing of it
        """Number each answer."""
        return {"X-Request-Id": str(uuid.uuid4())}

    def _behind_the_edge(
        self, act: Act, intake: Intake
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await intake.json(request)
            refused = self._at_the_edge(request)
            if refused:
                return refused
            asked = Asked(
                f"{request.method} {request.path}",
                request.match_info.get("pod", ""),
                request.headers.get("Authorization", ""),
                body,
            )
            try:
                return act(asked)
            except RefusedError as error:
                return self._in_its_words(self.kind_of(request.path), error)

        return handle

    def _at_the_edge(self, request: web.Request) -> Answer | None:
        """Refuse who does not say who they are, who shows a key in an address, and what has retired."""
        agent = request.headers.get("User-Agent", "")
        if not agent or agent.startswith("Python-urllib"):
            page = b"<html><head><title>403</title></head><body>error code: 1010</body></html>"
            return Answer(page, status=403, headers={"Content-Type": "text/html; charset=utf-8"})
        if "api_key" in request.query:
            return self.refusal(RefusedError(400, "Send the API key as Authorization: Bearer"))
        for api, status in self.retired.items():
            if api == self.kind_of(request.path):
                return self.refusal(RefusedError(status, f"{api} has been retired"))
        return None

    def _stray(self, asked: Asked) -> Answer:
        if "/pods" in asked.what and not asked.what.startswith("GET "):
            self.catastrophes.append(asked.what)
        raise RefusedError(404, f"no such address: {asked.what}")

    def _in_its_words(self, kind: str, error: RefusedError) -> Answer:
        words = {"v2": rest.problem, "graphql": graphql.errors}
        return words.get(kind, self.refusal)(error)
