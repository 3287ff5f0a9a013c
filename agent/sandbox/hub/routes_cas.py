"""Routes of xet: tokens, xorbs, shards, reconstructions (https://huggingface.co/docs/xet/api)."""

import asyncio
import re
from collections import defaultdict
from typing import Any

from aiohttp import web

from agent.sandbox.hub import shard, xorb
from agent.sandbox.hub.content import read_file
from agent.sandbox.hub.refused import bad_request
from agent.sandbox.hub.tickets import Scope
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.answers import Answer, json_answer, parse_range, stretch
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError

_HASH = re.compile(r"[0-9a-f]{64}")
_SHARD_MAX_BYTES = 128 * 2**20


class CasRoutes:
    """`xet-{read,write}-token` of the API, and the storage service at the same address.

    Global deduplication, upload grants and version 2 of routes are answered 404: hf_xet goes without.
    """

    def __init__(self, world: World, intake: Intake) -> None:
        self.world = world
        self.intake = intake

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        model = "/api/models/{repo:[^/]+(?:/[^/]+)?}"
        return [
            web.get(f"{model}/xet-write-token/{{revision}}", self.write_token),
            web.get(f"{model}/xet-read-token/{{revision}}", self.read_token),
            web.post("/v1/xorbs/default/{hash}", self.add_xorb),
            web.post("/v1/shards", self.add_shard),
            web.get("/v1/reconstructions/{hash}", self.reconstruct),
            web.get("/xorbs/{hash}", self.xorb),
            web.post("/v1/telemetry", self.telemetry),
        ]

    async def write_token(self, request: web.Request) -> Answer:
        """Give out a token to store content with."""
        return self._token(request, "write", self.world.storable(request).id)

    async def read_token(self, request: web.Request) -> Answer:
        """Give out a token to read content with."""
        return self._token(request, "read", self.world.readable(request).id)

    async def add_xorb(self, request: web.Request) -> Answer:
        """Store a xorb."""
        self._check(request, "write")
        name = request.match_info["hash"]
        if not _HASH.fullmatch(name):
            raise bad_request(f"Invalid xorb hash: {name}")
        cas, received = self.world.content.cas, self.world.content.spool()
        await self.intake.save(request, received, limit=xorb.MAX_BYTES)
        try:
            inserted = await asyncio.to_thread(cas.add_xorb, name, received)
        finally:
            received.unlink(missing_ok=True)
        return json_answer({"was_inserted": inserted})

    async def add_shard(self, request: web.Request) -> Answer:
        """Register files, once they have been rebuilt and found to be what the shard says."""
        self._check(request, "write")
        parsed = shard.parse(await self.intake.read(request, limit=_SHARD_MAX_BYTES))
        news = await asyncio.to_thread(self.world.content.cas.register, parsed)
        return json_answer({"result": int(news)})

    async def reconstruct(self, request: web.Request) -> Answer:
        """Say from which parts of which xorbs a file, or a range of it, is put together."""
        self._check(request, "read")
        cas = self.world.content.cas
        file = cas.file(request.match_info["hash"])
        if file is None:
            raise RefusedError(404, "File not found")
        start, stop = parse_range(request.headers.get("Range"), file.size) or (0, file.size)
        skip, terms = cas.terms(file, start, stop)
        fetch: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for term in terms:
            first, last = cas.xorb_range(term)
            url = f"{self.world.endpoint}/xorbs/{term.xorb}?signature={self.world.tickets.sign(term.xorb)}"
            chunks = {"start": term.start, "end": term.end}
            part = {"range": chunks, "url": url, "url_range": {"start": first, "end": last}}
            if part not in fetch[term.xorb]:
                fetch[term.xorb].append(part)
        described = [
            {"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.end}}
            for t in terms
        ]
        return json_answer({"offset_into_first_range": skip, "terms": described, "fetch_info": fetch})

    async def xorb(self, request: web.Request) -> Answer:
        """Serve a xorb, or a range of it, to whoever has the signed URL."""
        name = request.match_info["hash"]
        self.world.tickets.check_signature(name, request.query.get("signature"))
        path = self.world.content.cas.xorb_path(name)
        return stretch(request, path.stat().st_size, lambda start, stop: read_file(path, start, stop), {})

    async def telemetry(self, request: web.Request) -> Answer:
        """Ignore what the client measured."""
        await self.intake.drain(request)
        return json_answer({})

    def _token(self, request: web.Request, scope: Scope, repo_id: str) -> Answer:
        if not self.world.xet_enabled:
            raise RefusedError(404, f"Xet storage is not enabled for {repo_id}")
        revision = request.match_info["revision"]
        if revision != "None":  # what the client sends when it does not know the revision yet
            self.world.repos[repo_id].resolve(revision)
        caller = self.world.caller(request)
        token = self.world.tickets.issue(caller.user.name if caller else None, scope)
        url = self.world.endpoint if self.world.cas_reachable else self.world.closed_endpoint
        headers = {
            "X-Xet-Cas-Url": url,
            "X-Xet-Access-Token": token.value,
            "X-Xet-Token-Expiration": str(token.expires_at),
        }
        body = {"casUrl": url, "accessToken": token.value, "exp": token.expires_at}
        return json_answer(body, headers=headers)

    def _check(self, request: web.Request, scope: Scope) -> None:
        self.world.tickets.check(request.headers.get("Authorization"), scope)
