"""Answers a route gives: JSON, nothing, or a stretch of stored bytes."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from aiohttp import web

from agent.sandbox.loopback.refused import RefusedError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Pieces = Callable[[int, int], Iterator[bytes]]


class Answer(web.StreamResponse):
    """A status, headers and a body of known length that is read only while it is sent."""

    def __init__(
        self,
        body: bytes | Iterator[bytes] = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(status=status, headers=headers)
        self._pieces = iter([body]) if isinstance(body, bytes) else body
        self.length = len(body) if isinstance(body, bytes) else length or 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body, reading the disk off the event loop."""
        while (piece := await asyncio.to_thread(next, self._pieces, None)) is not None:
            yield piece


def json_answer(data: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON; dates in YAML metadata become strings."""
    body = json.dumps(data, default=str).encode()
    return Answer(
        body, status=status, headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    )


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return [start, stop) of a single-range header, None for the whole.

    Raises:
        RefusedError: 416 if nothing of it lies in the file.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if start >= stop:
        raise RefusedError(
            416, "Requested range not satisfiable", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop


def stretch(request: web.Request, size: int, read: Pieces, headers: Mapping[str, str]) -> Answer:
    """Answer with stored bytes: all of them (200), or the Range asked for (206)."""
    described = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    span = parse_range(request.headers.get("Range"), size)
    start, stop = span or (0, size)
    if span:
        described["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(read(start, stop), status=206 if span else 200, headers=described, length=stop - start)
