"""A request as PostgREST gets it: past the gateway, without the prefix, its body in hand."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

_BEARER = re.compile(r"bearer(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Incoming:
    """Method, raw path and query string, headers with names in lower case, and body."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next(self.all(name), None)

    def all(self, name: str) -> Iterator[str]:
        """Yield all values of a header."""
        return (value for key, value in self.headers if key == name)

    def with_header(self, name: str, value: str) -> "Incoming":
        """Return the same request with one header set."""
        others = [pair for pair in self.headers if pair[0] != name]
        return replace(self, headers=[*others, (name, value)])

    @property
    def segments(self) -> list[str]:
        """The decoded parts of the path."""
        inner = self.path.removeprefix("/")
        return [unquote(part) for part in inner.split("/")] if inner else []

    @property
    def token(self) -> str | None:
        """The bearer token; an empty one is sent, too."""
        match = _BEARER.fullmatch(self.header("authorization") or "")
        return (match[1] or "") if match else None

    @property
    def profile(self) -> str | None:
        """The schema that the client chose."""
        writes = self.method in {"POST", "PATCH", "PUT", "DELETE"}
        return self.header("content-profile" if writes else "accept-profile")

    def variables(self) -> list[tuple[str, str]]:
        """Return what policies and functions may read of the request, as settings of the transaction."""
        headers = {name: value for name, value in self.headers if name != "cookie"}
        pairs = [pair.strip().partition("=") for pair in (self.header("cookie") or "").split(";")]
        cookies = {name: value for name, equals, value in pairs if equals}
        return [
            ("request.method", self.method),
            ("request.path", self.path),
            ("request.headers", json.dumps(headers)),
            ("request.cookies", json.dumps(cookies)),
        ]
