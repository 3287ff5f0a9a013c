"""What a request asks for, checked in the order in which PostgREST checks it."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.sandbox.rest.errors import (
    bad_method,
    bad_path,
    bad_preferences,
    bad_rpc_method,
    no_root,
    not_embedded,
    unknown_schema,
)
from agent.sandbox.rest.incoming import Incoming
from agent.sandbox.rest.media import content_type
from agent.sandbox.rest.payload import Payload, parse_payload
from agent.sandbox.rest.prefer import Preferences
from agent.sandbox.rest.prefer import parse as parse_prefer
from agent.sandbox.rest.query import Query, parse_query
from agent.sandbox.rest.ranges import Rows, requested

_READS = {"GET", "HEAD"}
_ON_TABLES = {*_READS, "POST", "PATCH", "DELETE"}
_ON_FUNCTIONS = {*_READS, "POST"}
_WITH_BODY = {"POST", "PATCH"}


@dataclass(frozen=True)
class Asked:
    """A request taken apart; `profile` is the schema to name in the answer, if any."""

    request: Incoming
    calls: bool
    schema: str
    name: str
    profile: str | None
    query: Query
    rows: Rows
    prefer: Preferences
    payload: Payload | None

    @property
    def reads(self) -> bool:
        """Whether it is a GET or HEAD."""
        return self.request.method in _READS

    @property
    def head(self) -> bool:
        """Whether only the headers are wanted."""
        return self.request.method == "HEAD"

    def check_embedding(self) -> None:
        """Refuse what reaches into another resource; none is ever embedded here.

        Raises:
            ApiError: PGRST108.
        """
        if self.query.embedded is not None:
            raise not_embedded(self.query.embedded)

    def check_preferences(self) -> None:
        """Refuse preferences nobody knows, if the client is strict.

        Raises:
            ApiError: PGRST122.
        """
        if self.prefer.strict and self.prefer.unknown:
            raise bad_preferences(self.prefer.unknown)


def parse_request(request: Incoming, schemas: Sequence[str], *, tx_allowed: bool) -> Asked:
    """Take a request apart.

    Raises:
        ApiError: PGRST1xx, the first that applies.
    """
    calls, name = _resource(request.segments)
    schema, profile = _schema(request, schemas)
    method = request.method
    if method not in (_ON_FUNCTIONS if calls else _ON_TABLES):
        raise bad_rpc_method(method) if calls else bad_method(method)
    query = parse_query(request.query, calls=calls and method in _READS)
    rows = requested(method, query.ranges, request.header("range"))
    payload = None
    if method in _WITH_BODY:
        media = content_type(request.header("content-type"))
        payload = parse_payload(request.body, media, query.columns, calls=calls)
    prefer = parse_prefer(request.all("prefer"), tx_allowed=tx_allowed)
    return Asked(request, calls, schema, name, profile, query, rows, prefer, payload)


def _resource(segments: Sequence[str]) -> tuple[bool, str]:
    match segments:
        case []:
            raise no_root()
        case [table]:
            return False, table
        case ["rpc", function]:
            return True, function
    raise bad_path()


def _schema(request: Incoming, schemas: Sequence[str]) -> tuple[str, str | None]:
    chosen = request.profile
    if chosen is None:
        return schemas[0], schemas[0] if len(schemas) > 1 else None
    if chosen not in schemas:
        raise unknown_schema(chosen, schemas)
    return chosen, chosen
