"""Routes of Git LFS: batch, upload in one piece or in parts, verify (the git-lfs batch API)."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.sandbox.hub.content import read_file
from agent.sandbox.hub.refused import bad_request
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LFS_JSON = {"Content-Type": "application/vnd.git-lfs+json"}


class LfsRoutes:
    """`/{id}.git/info/lfs/…`, and the signed URLs under `/lfs` that bytes are sent to."""

    def __init__(self, world: World, intake: Intake) -> None:
        self.world = world
        self.intake = intake
        self._parts: dict[str, dict[int, tuple[str, Path]]] = {}

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        git = "/{repo:[^/]+(?:/[^/]+)?}.git/info/lfs/objects"
        return [
            web.post(f"{git}/batch", self.batch),
            web.post(f"{git}/verify", self.verify),
            web.put("/lfs/{oid}/{size}", self.upload),
            web.put("/lfs/{oid}/{size}/{part}", self.upload_part),
            web.post("/lfs/{oid}/{size}", self.complete),
        ]

    async def batch(self, request: web.Request) -> Answer:
        """Say for each object where to send it; no actions if storage has it."""
        repo = self.world.storable(request)
        payload = await self.intake.json(request)
        objects = payload.get("objects")
        if payload.get("operation") != "upload" or not isinstance(objects, list):
            raise bad_request("Only the batch operation upload is served here")
        wanted = [_check_object(item) for item in objects]
        multipart = "multipart" in payload.get("transfers", [])
        described = [self._describe(repo.id, oid, size, multipart=multipart) for oid, size in wanted]
        parts = any(
            "chunk_size" in item.get("actions", {}).get("upload", {}).get("header", {}) for item in described
        )
        return json_answer(
            {"transfer": "multipart" if parts else "basic", "objects": described}, headers=_LFS_JSON
        )

    async def upload(self, request: web.Request) -> Answer:
        """Take a whole object, and refuse it (400) if it is not what its name says."""
        oid, size = self._ticket(request)
        received, digest = self.world.content.spool(), hashlib.sha256()
        sent = await self.intake.save(request, received, limit=size, digests=[digest])
        if (sent, digest.hexdigest()) != (size, oid):
            received.unlink()
            raise bad_request(
                f"Object {oid} of {size} bytes: received {sent} bytes with sha256 {digest.hexdigest()}"
            )
        self.world.content.add_lfs(oid, received)
        return Answer()

    async def upload_part(self, request: web.Request) -> Answer:
        """Take one part; its ETag is asked for at completion."""
        oid, _ = self._ticket(request)
        number = int(request.match_info["part"])
        received, digest = self.world.content.spool(), hashlib.md5(usedforsecurity=False)
        await self.intake.save(request, received, limit=self.world.multipart_chunk, digests=[digest])
        etag = f'"{digest.hexdigest()}"'
        self._parts.setdefault(oid, {})[number] = (etag, received)
        return Answer(headers={"ETag": etag})

    async def complete(self, request: web.Request) -> Answer:
        """Join the parts of an object, and refuse them (400) if they do not make it."""
        oid, size = self._ticket(request)
        claimed = (await self.intake.json(request)).get("parts")
        parts = self._parts.get(oid, {})
        known = [{"partNumber": number, "etag": etag} for number, (etag, _) in sorted(parts.items())]
        if claimed != known:
            raise bad_request(f"Object {oid}: the parts named are not the parts received")
        await asyncio.to_thread(self._join, oid, size, [path for _, (_, path) in sorted(parts.items())])
        del self._parts[oid]
        return Answer()

    async def verify(self, request: web.Request) -> Answer:
        """Confirm that an object is in storage."""
        self.world.writable(request)
        oid, size = _check_object(await self.intake.json(request))
        entry = self.world.content.find_large(oid)
        if entry is None or entry.size != size:
            raise RefusedError(404, f"Object {oid} of {size} bytes is not in storage")
        return Answer()

    def _describe(self, repo: str, oid: str, size: int, *, multipart: bool) -> dict[str, Any]:
        described: dict[str, Any] = {"oid": oid, "size": size}
        known = self.world.content.find_large(oid)
        if known and known.size != size:
            return described | {
                "error": {"code": 422, "message": f"Object is {known.size} bytes long, not {size}"}
            }
        if known:
            return described
        url = f"{self.world.endpoint}/lfs/{oid}/{size}"
        signature = self.world.tickets.sign(f"{oid}/{size}")
        upload: dict[str, Any] = {"href": f"{url}?signature={signature}"}
        if multipart and size > self.world.multipart_over:
            chunk = self.world.multipart_chunk
            numbers = range(1, -(-size // chunk) + 1)
            upload["header"] = {str(n): f"{url}/{n}?signature={signature}" for n in numbers} | {
                "chunk_size": str(chunk)
            }
        verify = {"href": f"{self.world.endpoint}/{repo}.git/info/lfs/objects/verify"}
        return described | {"actions": {"upload": upload, "verify": verify}}

    def _ticket(self, request: web.Request) -> tuple[str, int]:
        oid, size = request.match_info["oid"], request.match_info["size"]
        self.world.tickets.check_signature(f"{oid}/{size}", request.query.get("signature"))
        return oid, int(size)

    def _join(self, oid: str, size: int, parts: list[Path]) -> None:
        whole, digest, total = self.world.content.spool(), hashlib.sha256(), 0
        with whole.open("wb") as file:
            for part in parts:
                for piece in read_file(part, 0, size):
                    file.write(piece)
                    digest.update(piece)
                    total += len(piece)
                part.unlink()
        if (total, digest.hexdigest()) != (size, oid):
            whole.unlink()
            self._parts.pop(oid)
            raise bad_request(
                f"Object {oid} of {size} bytes: the parts make {total} bytes, {digest.hexdigest()}"
            )
        self.world.content.add_lfs(oid, whole)


def _check_object(item: dict[str, Any]) -> tuple[str, int]:
    oid, size = item.get("oid"), item.get("size")
    if not isinstance(oid, str) or not _SHA256.fullmatch(oid) or not isinstance(size, int):
        raise RefusedError(422, f"Invalid LFS object: {item!r}")
    return oid, size
