"""Routes that lead to a commit: preupload, card validation, the commit itself."""

import asyncio
import base64
import binascii
from typing import Any

from aiohttp import web

from agent.sandbox.hub.commit import LINE_MAX_BYTES, Draft
from agent.sandbox.hub.names import check_path
from agent.sandbox.hub.readme import examine
from agent.sandbox.hub.refused import bad_request, revision_not_found
from agent.sandbox.hub.repos import Commit
from agent.sandbox.hub.upload_mode import UploadRules
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.body import Intake

_PREUPLOAD_FILES = 256


class WriteRoutes:
    """`preupload`, `validate-yaml` and `commit`."""

    def __init__(self, world: World, intake: Intake) -> None:
        self.world = world
        self.intake = intake

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        model = "/api/models/{repo:[^/]+(?:/[^/]+)?}"
        return [
            web.post("/api/validate-yaml", self.validate_yaml),
            web.post(f"{model}/preupload/{{revision}}", self.preupload),
            web.post(f"{model}/commit/{{branch}}", self.commit),
        ]

    async def validate_yaml(self, request: web.Request) -> Answer:
        """Judge the metadata of a model card; needs no token."""
        self.world.caller(request)
        content = (await self.intake.json(request)).get("content")
        if not isinstance(content, str):
            raise bad_request('"content" must be a string')
        verdict = examine(content)
        return json_answer(verdict.as_json(), status=400 if verdict.errors else 200)

    async def preupload(self, request: web.Request) -> Answer:
        """Say how each file is to be uploaded, and what the branch has at its path."""
        repo = self.world.writable(request)
        commit = repo.resolve(request.match_info["revision"])
        payload = await self.intake.json(request)
        files, gitignore = payload.get("files"), payload.get("gitIgnore")
        if not isinstance(files, list) or len(files) > _PREUPLOAD_FILES:
            raise bad_request(f'"files" must contain less than or equal to {_PREUPLOAD_FILES} items')
        rules = self.world.rules_at(commit, gitignore if isinstance(gitignore, str) else None)
        return json_answer({"files": [_plan(rules, commit, file) for file in files], "commitOid": commit.oid})

    async def commit(self, request: web.Request) -> Answer:
        """Make one atomic commit on a branch."""
        if request.query.get("create_pr"):
            raise bad_request("This Hub holds no pull requests")
        repo = self.world.storable(request)
        branch = request.match_info["branch"]
        if branch not in repo.branches:
            raise revision_not_found(branch)
        draft = await Draft.read(self.world, self.intake.lines(request, limit=LINE_MAX_BYTES))
        author = self.world.access.needs(self.world.caller(request)).user.name
        made = await asyncio.to_thread(draft.apply, repo, branch, author)
        answer = {
            "success": True,
            "commitOid": made.oid,
            "commitUrl": f"{self.world.endpoint}/{repo.id}/commit/{made.oid}",
            "hookOutput": "",
        }
        return json_answer(answer)


def _plan(rules: UploadRules, commit: Commit, file: dict[str, Any]) -> dict[str, object]:
    try:
        path, size = check_path(file["path"]), int(file["size"])
        sample = base64.b64decode(file["sample"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise bad_request(f"Invalid preupload file: {error!r}") from error
    plan: dict[str, object] = {
        "path": path,
        "uploadMode": "lfs" if rules.is_large(path, size, sample) else "regular",
        "shouldIgnore": rules.is_ignored(path),
    }
    entry = commit.tree.get(path)
    return plan | ({"oid": entry.sha256 or entry.oid} if entry else {})
