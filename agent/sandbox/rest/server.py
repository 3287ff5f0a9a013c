"""The embedded Supabase REST service: its address, its keys, and the handles tests turn."""

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from aiohttp import web

from agent.sandbox.loopback.answers import Answer
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.server import LoopbackServer
from agent.sandbox.rest import tokens
from agent.sandbox.rest.api import Api, Settings
from agent.sandbox.rest.errors import ApiError, error_answer
from agent.sandbox.rest.gateway import Keys, authorization, no_route, refusal
from agent.sandbox.rest.incoming import Incoming
from agent.sandbox.rest.transaction import Database

JWT_SECRET = "jwt-secret-of-the-embedded-project-32-characters-or-more"  # noqa: S105 - it ends with the server
PUBLISHABLE_KEY = "sb_publishable_of_the_embedded_project"
SECRET_KEY = "sb_secret_of_the_embedded_project"  # noqa: S105 - likewise
_ISSUER = "supabase-demo"


class Rest(LoopbackServer):
    """A Supabase REST API on 127.0.0.1 over a real PostgreSQL, running between `start` and `close`.

    Rights, policies, triggers and timeouts are PostgreSQL's own; this is only PostgREST and the gateway.

    Args:
        dsn: the database, logging in as `authenticator` or whoever may take on the roles.
        schemas: the exposed schemas; the first one is the default.
        extra_search_path: schemas that are searched, but not exposed.
        anon_role: the role without a token; None refuses such requests.
        jwt_secret: what tokens are signed with.
        publishable_key: the opaque key that stands for `anon`.
        secret_key: the opaque key that stands for `service_role`.
        prefix: where the API lives below `endpoint`.
        gateway: whether keys are required and translated; without, PostgREST stands alone.
        safeupdate: whether UPDATE and DELETE need a filter.
        pool_size: transactions at a time.
        pool_timeout_s: how long a request waits for its turn.
        tx_end_override: whether clients may choose to roll back or to commit.
        rollback_all: whether transactions are rolled back unless the client chooses otherwise.
        latency_s: pause before each answer.
        calls_s: calls per second; more are answered 429.
        port: where to listen; 0 takes a free port.

    Attributes:
        publishable_key: the opaque key that stands for `anon`.
        secret_key: the opaque key that stands for `service_role`.
        anon_key: the legacy key of `anon`, a token.
        service_key: the legacy key of `service_role`, a token.
    """

    limited: ClassVar[frozenset[str]] = frozenset({"rest"})

    def __init__(
        self,
        dsn: str,
        *,
        schemas: Sequence[str] = ("public",),
        extra_search_path: Sequence[str] = ("extensions",),
        anon_role: str | None = "anon",
        jwt_secret: str = JWT_SECRET,
        publishable_key: str = PUBLISHABLE_KEY,
        secret_key: str = SECRET_KEY,
        prefix: str = "/rest/v1",
        gateway: bool = True,
        safeupdate: bool = True,
        pool_size: int = 10,
        pool_timeout_s: float = 10.0,
        tx_end_override: bool = False,
        rollback_all: bool = False,
        latency_s: float = 0.0,
        calls_s: float | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(latency_s=latency_s, calls_s=calls_s, port=port)
        self._secret = jwt_secret
        self.publishable_key = publishable_key
        self.secret_key = secret_key
        self.anon_key = self.jwt("anon", iss=_ISSUER)
        self.service_key = self.jwt("service_role", iss=_ISSUER)
        self._keys = Keys(publishable_key, secret_key, self.anon_key, self.service_key) if gateway else None
        self._prefix = prefix
        settings = Settings(
            schemas, extra_search_path, anon_role, jwt_secret, safeupdate, tx_end_override, rollback_all
        )
        self._database = Database(dsn, pool_size=pool_size, pool_timeout_s=pool_timeout_s)
        self._api = Api(settings, self._database)

    def jwt(self, role: str = "authenticated", **claims: Any) -> str:  # noqa: ANN401 - any JSON value
        """Return a signed token with this role and these claims; it never expires unless `exp` says so."""
        return tokens.mint({"role": role, **claims}, self._secret)

    def refresh(self) -> None:
        """Read the schema cache and the settings of the roles anew, as after NOTIFY pgrst.

        Raises:
            ApiError: the database cannot be reached; until it can, every request is told PGRST002.
        """
        if self._loop is None:
            raise RuntimeError("refresh() needs a started server")
        asyncio.run_coroutine_threadsafe(self._api.load(), self._loop).result()

    @contextmanager
    def reload_schema(self) -> Iterator[None]:
        """Answer 503 PGRST002 inside the block, and read the schema cache anew at its end."""
        self._api.reloading = True
        try:
            yield
        finally:
            self._api.reloading = False
        self.refresh()

    def routes(self, intake: Intake) -> list[web.RouteDef]:
        """Everything, for a path may name any table."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handle(request, intake)

        return [web.route("*", "/{path:.*}", handle)]

    def refusal(self, error: RefusedError) -> Answer:
        """Put a refusal into PostgREST's words, or into the gateway's."""
        return error_answer(error) if isinstance(error, ApiError) else refusal(error)

    def kind_of(self, path: str) -> str:
        """Sort a path into rest and gateway."""
        return "rest" if path == self._prefix or path.startswith(f"{self._prefix}/") else "gateway"

    def user_of(self, request: web.Request) -> str | None:
        """Name the role that a request runs as."""
        with suppress(RefusedError):
            return self._api.caller(self._incoming(request, b"")).role
        return None

    def marks(self, request: web.Request) -> Mapping[str, str]:  # noqa: ARG002 - they tell nothing of it
        """Number each answer."""
        return {"sb-request-id": str(uuid.uuid4())}

    async def _serve(self) -> None:
        with suppress(ApiError):  # the first request tries again, and is told
            await self._api.load()
        try:
            await super()._serve()
        finally:
            await self._database.settle()  # the loop must not end before PostgreSQL knows

    async def _handle(self, request: web.Request, intake: Intake) -> Answer:
        if self.kind_of(request.path) != "rest":
            raise no_route()
        incoming = self._incoming(request, await intake.read(request))
        return await self._api.answer(incoming)

    def _incoming(self, request: web.Request, body: bytes) -> Incoming:
        path, _, query = request.raw_path.removeprefix(self._prefix).partition("?")
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        incoming = Incoming(request.method, path, query, headers, body)
        if self._keys is None:
            return incoming
        key, sent = incoming.header("apikey"), incoming.header("authorization")
        return incoming.with_header("authorization", authorization(self._keys, key, sent))
