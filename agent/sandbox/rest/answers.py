"""Results as HTTP: status, headers and body of every kind of success."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from aiohttp.abc import AbstractStreamWriter
from aiohttp.web import BaseRequest
from multidict import CIMultiDict

from agent.sandbox.loopback.answers import Answer
from agent.sandbox.rest.errors import bad_guc_headers, bad_guc_status, bad_range, error_body
from agent.sandbox.rest.media import Media
from agent.sandbox.rest.prefer import Preferences
from agent.sandbox.rest.ranges import Rows, content_range, status
from agent.sandbox.rest.strict_json import loads
from agent.sandbox.rest.transaction import Result

_DIGITS = re.compile(r"\d+")
Headers = CIMultiDict[str]


class Lengthless(Answer):
    """An answer that does not say how long it is, as HEAD has no body to measure."""

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Drop the length that the sender has set."""
        self.headers.popall("Content-Length", None)
        return await super().prepare(request)


class Answers:
    """Builds the answers to one request from its result."""

    def __init__(self, result: Result, prefer: Preferences, media: Media, profile: str | None) -> None:
        self._result = result
        self._prefer = prefer
        self._media = media
        self._profile = profile

    def read(self, rows: Rows, location: str, *, head: bool) -> Answer:
        """Answer GET and HEAD on a table."""
        hidden = ("resolution", "missing", "return", "max-affected")
        return self._rows(rows, {"Content-Location": location}, hidden, head=head)

    def called(self, rows: Rows, *, head: bool, void: bool) -> Answer:
        """Answer a call of a function."""
        hidden = ("resolution", "missing", "return")
        if not void:
            return self._rows(rows, {}, hidden, head=head)
        span = self._span(rows.offset, rows.offset + self._result.count - 1, self._result.total)
        return self._finished(204, self._granted(span, *hidden))

    def updated(self) -> Answer:
        """Answer PATCH."""
        span = self._span(0, self._result.count - 1, self._counted())
        return self._changed(self._granted(span, "resolution"))

    def deleted(self) -> Answer:
        """Answer DELETE."""
        return self._changed(self._granted(self._span(1, 0, self._counted()), "resolution", "missing"))

    def inserted(self, table: str, *, conflicts: bool) -> Answer:
        """Answer POST on a table; 200 instead of 201 if everything was merged into what was there."""
        headers = Headers()
        if self._result.location:
            pairs = (pair.partition("=")[::2] for pair in self._result.location)
            found = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in pairs)
            headers["Location"] = f"/{table}?{found}"
        headers.update(self._span(1, 0, self._counted()))
        hidden = ["max-affected"] if conflicts else ["max-affected", "resolution"]
        merged = self._prefer.resolution == "merge-duplicates" and (self._result.inserted or 0) <= 0
        return self._with_body(200 if merged else 201, self._granted(headers, *hidden))

    def _changed(self, headers: Headers) -> Answer:
        whole = self._prefer.returns == "representation"
        return self._with_body(200, headers) if whole else self._finished(204, headers)

    def _with_body(self, code: int, headers: Headers) -> Answer:
        if self._prefer.returns != "representation":
            return self._finished(code, headers)
        headers.update(self._described())
        return self._finished(code, headers, self._result.body.encode())

    def _rows(self, rows: Rows, headers: dict[str, str], hidden: Iterable[str], *, head: bool) -> Answer:
        result = self._result
        code = status(rows, result.count, result.total)
        body = result.body.encode()
        if code == 416:  # noqa: PLR2004 - Range Not Satisfiable
            beyond = f"An offset of {rows.offset} was requested, but there are only {result.total} rows."
            body = error_body(bad_range(beyond))
        all_headers = self._span(rows.offset, rows.offset + result.count - 1, result.total)
        all_headers.update(headers)
        all_headers.update(self._described())
        return self._finished(code, self._granted(all_headers, *hidden), b"" if head else body, head=head)

    def _span(self, first: int, last: int, total: int | None) -> Headers:
        return Headers({"Content-Range": content_range(first, last, total)})

    def _counted(self) -> int | None:
        return self._result.count if self._prefer.counts else None

    def _granted(self, headers: Headers, *hidden: str) -> Headers:
        if granted := self._prefer.granted(*hidden):
            headers["Preference-Applied"] = granted
        return headers

    def _described(self) -> Headers:
        headers = Headers({"Content-Type": self._media.content_type})
        if self._profile is not None:
            headers["Content-Profile"] = self._profile
        return headers

    def _finished(self, code: int, headers: Headers, body: bytes = b"", *, head: bool = False) -> Answer:
        """Let the database overrule status and headers, as functions may."""
        if self._result.status is not None:
            digits = _DIGITS.match(self._result.status)
            if digits is None:
                raise bad_guc_status()
            code = int(digits[0])
        overruling = _guc_headers(self._result.headers)
        for name in overruling:
            headers.popall(name, None)
        headers.extend(overruling)
        headers.setdefault("Vary", "Accept, Prefer, Range")
        if code == 503:  # noqa: PLR2004 - Service Unavailable
            headers.setdefault("Retry-After", "0")
        return (Lengthless if head else Answer)(body, status=code, headers=headers)


def _guc_headers(text: str | None) -> Headers:
    if text is None:
        return Headers()
    try:
        pairs = [pair for one in loads(text) for pair in _single(one)]
    except (ValueError, TypeError) as error:
        raise bad_guc_headers() from error
    return Headers(pairs)


def _single(header: object) -> Iterable[tuple[str, str]]:
    match header:
        case dict() if len(header) == 1 and all(isinstance(value, str) for value in header.values()):
            return header.items()
    raise TypeError
