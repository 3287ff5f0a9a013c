"""PostgREST's way from a request to its answer.

The order decides which of several errors is told: the token, the schema cache, path, profile, method, query
string, range, body, then the table or function, its columns, preferences, media type, and then PostgreSQL.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.sandbox.loopback.answers import Answer
from agent.sandbox.rest import tokens
from agent.sandbox.rest.answers import Answers
from agent.sandbox.rest.asked import Asked, parse_request
from agent.sandbox.rest.errors import ApiError, no_schema_cache, single_max_affected, token_required
from agent.sandbox.rest.incoming import Incoming
from agent.sandbox.rest.media import Media, negotiate
from agent.sandbox.rest.routines import call, choose
from agent.sandbox.rest.schema import SchemaCache
from agent.sandbox.rest.sql import ident
from agent.sandbox.rest.statements import Statement, Writer, read
from agent.sandbox.rest.transaction import Database, Result, Transaction

_ISOLATION = "default_transaction_isolation"


@dataclass(frozen=True)
class Settings:
    """What an administrator sets."""

    schemas: Sequence[str]
    extra_search_path: Sequence[str]
    anon_role: str | None
    jwt_secret: str
    safeupdate: bool
    tx_end_override: bool
    rollback_all: bool


@dataclass(frozen=True)
class Caller:
    """On whose behalf a request runs."""

    role: str
    claims: Mapping[str, Any]


class Api:
    """Answers requests on the exposed tables and functions of one database.

    While `reloading` every request is told that the schema cache is missing.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._cache: SchemaCache | None = None
        self.reloading = False

    async def load(self) -> None:
        """Read the schema cache anew; until that succeeds there is none."""
        self._cache = None
        self._cache = await self._database.read_schema_cache(self._settings.schemas)

    def caller(self, request: Incoming) -> Caller:
        """Say on whose behalf a request runs: the role in its token, else the anonymous one.

        Raises:
            ApiError: PGRST301, PGRST302 or PGRST303.
        """
        token = request.token
        claims = {} if token is None else tokens.read(token, self._settings.jwt_secret)
        if "role" in claims:
            role = claims["role"]
            return Caller(role if isinstance(role, str) else json.dumps(role), claims)
        if self._settings.anon_role is None:
            raise token_required()
        return Caller(self._settings.anon_role, claims)

    async def answer(self, request: Incoming) -> Answer:
        """Answer a request.

        Raises:
            ApiError: every refusal.
        """
        caller = self.caller(request)
        cache = await self._loaded()
        settings = self._settings
        asked = parse_request(request, settings.schemas, tx_allowed=settings.tx_end_override)
        work = _Work(settings, self._database, caller, cache, asked)
        if asked.calls:
            return await work.call()
        return await (work.read() if asked.reads else work.write())

    async def _loaded(self) -> SchemaCache:
        if self._cache is None and not self.reloading:
            try:
                await self.load()
            except ApiError:
                raise no_schema_cache() from None
        if self._cache is None or self.reloading:
            raise no_schema_cache()
        return self._cache


@dataclass(frozen=True)
class _Work:
    """One request on its way through the database."""

    settings: Settings
    database: Database
    caller: Caller
    cache: SchemaCache
    asked: Asked

    async def read(self) -> Answer:
        asked = self.asked
        table = self.cache.table(asked.schema, asked.name)
        asked.check_embedding()
        media = self._media()
        asked.check_preferences()
        statement = read(
            table, asked.query, asked.rows, media, counts=asked.prefer.counts, body=not asked.head
        )
        result = await self._run(statement, media, read_only=True)
        canonical = asked.query.canonical
        location = f"/{table.name}?{canonical}" if canonical else f"/{table.name}"
        return self._answers(result, media).read(asked.rows, location, head=asked.head)

    async def write(self) -> Answer:
        asked, method = self.asked, self.asked.request.method
        table = self.cache.table(asked.schema, asked.name)
        asked.check_embedding()
        if asked.payload is not None:
            table.types(asked.payload.keys)
        asked.check_preferences()
        media = self._media()
        writer = Writer(table, asked.query, media, asked.prefer.returns, asked.prefer.missing)
        if asked.payload is None:
            result = await self._run(writer.delete(), media, limited=True)
            return self._answers(result, media).deleted()
        if method == "PATCH":
            result = await self._run(writer.update(asked.payload), media, limited=True)
            return self._answers(result, media).updated()
        result = await self._run(writer.insert(asked.payload, asked.prefer.resolution), media)
        conflicts = bool(table.primary_key) or asked.query.on_conflict is not None
        return self._answers(result, media).inserted(table.name, conflicts=conflicts)

    async def call(self) -> Answer:
        asked, payload = self.asked, self.asked.payload
        keys = asked.query.arguments if payload is None else payload.keys
        routine = choose(self.cache, asked.schema, asked.name, tuple(keys), posted=payload is not None)
        asked.check_embedding()
        media = self._media()
        asked.check_preferences()
        if asked.prefer.strict and asked.prefer.max_affected is not None and not routine.returns_set:
            raise single_max_affected()
        arguments = asked.query.arguments if payload is None else payload
        statement = call(routine, arguments, asked.query, asked.rows, media, counts=asked.prefer.counts)
        read_only = payload is None or not routine.volatile
        result = await self._run(
            statement, media, read_only=read_only, limited=True, function_settings=routine.settings
        )
        answers = self._answers(result, media)
        return answers.called(asked.rows, head=asked.head, void=routine.returns_void)

    def _media(self) -> Media:
        return negotiate(self.asked.request.header("accept"))

    def _answers(self, result: Result, media: Media) -> Answers:
        return Answers(result, self.asked.prefer, media, self.asked.profile)

    async def _run(
        self,
        statement: Statement,
        media: Media,
        *,
        read_only: bool = False,
        limited: bool = False,
        function_settings: Mapping[str, str] | None = None,
    ) -> Result:
        prefer = self.asked.prefer
        of_role = dict(self.cache.role_settings.get(self.caller.role, {}))
        of_function = dict(function_settings or {})
        isolation = of_role.pop(_ISOLATION, "read committed")
        isolation = of_function.pop(_ISOLATION, isolation)
        work = Transaction(
            statement,
            settings=self._variables(of_role, of_function),
            authenticated=self.caller.role != self.settings.anon_role,
            read_only=read_only,
            isolation=isolation,
            singular=media.singular,
            max_affected=prefer.max_affected if limited and prefer.strict else None,
            safeupdate=self.settings.safeupdate,
            estimates=prefer.count in {"planned", "estimated"},
            rolls_back=prefer.tx == "rollback" or (self.settings.rollback_all and prefer.tx != "commit"),
        )
        return await self.database.run(work)

    def _variables(self, of_role: Mapping[str, str], of_function: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the settings in their order: those of the role come before the role itself is taken on."""
        caller, timezone = self.caller, self.asked.prefer.timezone
        path = (self.asked.schema, *self.settings.extra_search_path)
        return [
            ("search_path", ", ".join(map(ident, path))),
            *of_role.items(),
            ("role", caller.role),
            ("request.jwt.claims", json.dumps({**caller.claims, "role": caller.role})),
            *self.asked.request.variables(),
            *([("timezone", timezone)] if timezone else []),
            *of_function.items(),
        ]
