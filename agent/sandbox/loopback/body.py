"""Request bodies: read at the allowed bandwidth, counted, and never held in memory whole unless small."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from aiohttp import web

from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.traffic import ByteRate, Request

RECORD = web.RequestKey("record", Request)
SMALL_BYTES = 8 * 2**20
_WRITE_BYTES = 4 * 2**20


class Digest(Protocol):
    """A hash that grows with the bytes written."""

    def update(self, data: bytes, /) -> object:
        """Take in more bytes."""


class Intake:
    """Reads bodies; all of them share one bandwidth."""

    def __init__(self, rate: ByteRate) -> None:
        self.rate = rate

    async def pieces(self, request: web.Request) -> AsyncIterator[bytes]:
        """Yield the body as it comes in."""
        record = request[RECORD]
        async for piece in request.content.iter_any():  # iter_chunks never ends on an empty body
            record.received_bytes += len(piece)
            await self.rate.take(len(piece))
            yield piece

    async def drain(self, request: web.Request) -> None:
        """Let the sender finish, and keep nothing."""
        async for _ in self.pieces(request):
            pass

    async def read(self, request: web.Request, *, limit: int = SMALL_BYTES) -> bytes:
        """Return a small body.

        Raises:
            RefusedError: 413 above `limit` bytes.
        """
        body = bytearray()
        async for piece in self.pieces(request):
            body += piece
            if len(body) > limit:
                raise RefusedError(413, "Payload too large")
        return bytes(body)

    async def json(self, request: web.Request) -> dict[str, Any]:
        """Return a body that must be a JSON object; an empty one counts as {}."""
        body = await self.read(request)
        try:
            value = json.loads(body or b"{}")
        except ValueError as error:
            raise RefusedError(400, f"Invalid JSON: {error}") from error
        if not isinstance(value, dict):
            raise RefusedError(400, "Invalid JSON: expected an object")
        return value

    async def lines(self, request: web.Request, *, limit: int) -> AsyncIterator[bytes]:
        """Yield the lines of a body, one in memory at a time.

        Raises:
            RefusedError: 413 for a line above `limit` bytes.
        """
        rest = bytearray()
        async for piece in self.pieces(request):
            *ended, tail = piece.split(b"\n")
            for line in ended:
                rest += line
                yield bytes(rest)
                rest.clear()
            rest += tail
            if len(rest) > limit:
                raise RefusedError(413, "Payload too large")
        yield bytes(rest)

    async def save(
        self, request: web.Request, target: Path, *, limit: int | None = None, digests: Iterable[Digest] = ()
    ) -> int:
        """Write the body to a file, hashing on the way; the next piece arrives while one is written.

        Returns:
            The number of bytes. A body that breaks off leaves no file.
        """
        spool = await asyncio.to_thread(_Spool, target, digests)
        batch: list[bytes] = []
        writing: asyncio.Future[None] | None = None
        waiting = total = 0
        done = False
        try:
            async for piece in self.pieces(request):
                batch.append(piece)
                waiting += len(piece)
                total += len(piece)
                if limit is not None and total > limit:
                    raise RefusedError(413, f"Payload too large: at most {limit} bytes")
                if waiting >= _WRITE_BYTES:
                    if writing:
                        await writing
                    writing = asyncio.ensure_future(asyncio.to_thread(spool.write, batch))
                    batch, waiting = [], 0
            if writing:
                await writing
            await asyncio.to_thread(spool.write, batch)
            done = True
        finally:
            if writing and not writing.done():
                await asyncio.wait([writing])
            spool.close(keep=done)
        return total


class _Spool:
    def __init__(self, target: Path, digests: Iterable[Digest]) -> None:
        self._target = target
        self._file: BinaryIO = target.open("wb")
        self._digests = list(digests)

    def write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._file.write(piece)
            for digest in self._digests:
                digest.update(piece)

    def close(self, *, keep: bool) -> None:
        self._file.close()
        if not keep:
            self._target.unlink()
