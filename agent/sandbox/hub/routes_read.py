"""Routes that read a revision: tree, paths-info and the files themselves."""

import base64
from pathlib import PurePosixPath
from urllib.parse import parse_qs

from aiohttp import web

from agent.sandbox.hub.listing import describe_file, describe_folder, folders, under
from agent.sandbox.hub.refused import entry_not_found
from agent.sandbox.hub.repos import Entry
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.answers import Answer, json_answer, stretch
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError

_MAX_PATHS = 1000


class ReadRoutes:
    """`tree`, `paths-info` and `resolve`."""

    def __init__(self, world: World, intake: Intake) -> None:
        self.world = world
        self.intake = intake

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        model = "/api/models/{repo:[^/]+(?:/[^/]+)?}"
        return [
            web.get(f"{model}/tree/{{revision}}", self.tree),
            web.get(f"{model}/tree/{{revision}}/{{path:.+}}", self.tree),
            web.post(f"{model}/paths-info/{{revision}}", self.paths_info),
            web.get("/{repo:[^/]+(?:/[^/]+)?}/resolve/{revision}/{path:.+}", self.resolve),
        ]

    async def tree(self, request: web.Request) -> Answer:
        """List a folder, `World.tree_page` entries at a time, the next page by cursor."""
        repo = self.world.readable(request)
        commit = repo.resolve(request.match_info["revision"])
        tree = self.world.tamper.listed(repo.id, commit.tree)
        folder = request.match_info.get("path", "").strip("/")
        if folder and folder not in folders(tree):
            raise entry_not_found(
                f"{folder} does not exist on {request.match_info['revision']!r}", commit=commit.oid
            )
        recursive = request.query.get("recursive", "").lower() in {"1", "true"}
        after = base64.urlsafe_b64decode(request.query.get("cursor", "")).decode()
        paths = [path for path in under(tree, folder, recursive=recursive) if path > after]
        page = paths[: self.world.tree_page]
        headers = {}
        if len(paths) > len(page):
            cursor = base64.urlsafe_b64encode(page[-1].encode()).decode()
            headers["Link"] = (
                f'<{self.world.endpoint}{request.rel_url.update_query(cursor=cursor)}>; rel="next"'
            )
        return json_answer([self._describe(path, tree) for path in page], headers=headers)

    async def paths_info(self, request: web.Request) -> Answer:
        """Describe the given paths, and leave out those that do not exist."""
        repo = self.world.readable(request)
        commit = repo.resolve(request.match_info["revision"])
        form = parse_qs((await self.intake.read(request)).decode())
        paths = form.get("paths", [])
        if len(paths) > _MAX_PATHS:
            raise RefusedError(413, "too many parameters")
        tree = self.world.tamper.listed(repo.id, commit.tree)
        known = tree.keys() | folders(tree)
        wanted = [path.strip("/") for path in paths]
        return json_answer([self._describe(path, tree) for path in wanted if path in known])

    async def resolve(self, request: web.Request) -> Answer:
        """Serve a file; hf_xet finds its way to xet storage by the headers."""
        world = self.world
        repo = world.readable(request)
        commit = repo.resolve(request.match_info["revision"])
        path = request.match_info["path"]
        entry = world.entry_at(commit, path)
        etag = f'"{entry.sha256 or entry.oid}"'
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": etag,
            "Content-Disposition": f'inline; filename="{PurePosixPath(path).name}"',
        }
        if entry.sha256:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(entry.size)}
        if entry.xet_hash and world.xet_enabled:
            route = f"{world.endpoint}/api/models/{repo.id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": entry.xet_hash, "X-Xet-Refresh-Route": route}
        lie = world.tamper.served(repo.id, path)
        if lie is not None:
            return stretch(request, len(lie), lambda start, stop: iter([lie[start:stop]]), headers)
        return stretch(
            request, entry.size, lambda start, stop: world.content.read(entry, start, stop), headers
        )

    def _describe(self, path: str, tree: dict[str, Entry]) -> dict[str, object]:
        if path in tree:
            return describe_file(path, tree[path], xet=self.world.xet_enabled)
        return describe_folder(path, tree)
