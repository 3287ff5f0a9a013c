"""Routes: who am I, create a repository, describe it, its refs and its history."""

from aiohttp import web

from agent.sandbox.hub.access import whoami
from agent.sandbox.hub.listing import describe_commit, describe_model
from agent.sandbox.hub.names import check_ref_name, check_repo_name
from agent.sandbox.hub.refused import bad_request, forbidden, repo_not_found, revision_not_found
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError

_COMMITS_PAGE = 50


class RepoRoutes:
    """`/api/whoami-v2`, `/api/repos/create`, `/api/models/{id}` and its refs and commits."""

    def __init__(self, world: World, intake: Intake) -> None:
        self.world = world
        self.intake = intake

    def table(self) -> list[web.RouteDef]:
        """Return the routes; longer ones first, since a repository id may have one part or two."""
        model = "/api/models/{repo:[^/]+(?:/[^/]+)?}"
        return [
            web.get("/api/whoami-v2", self.whoami),
            web.post("/api/repos/create", self.create),
            web.get(f"{model}/refs", self.refs),
            web.get(f"{model}/commits/{{revision}}", self.commits),
            web.post(f"{model}/branch/{{branch}}", self.create_branch),
            web.delete(f"{model}/branch/{{branch}}", self.delete_branch),
            web.post(f"{model}/tag/{{revision}}", self.create_tag),
            web.delete(f"{model}/tag/{{tag}}", self.delete_tag),
            web.get(f"{model}/revision/{{revision}}", self.info),
            web.get(model, self.info),
            web.get("/api/datasets/{dataset:[^/]+(?:/[^/]+)?}", self.dataset),
        ]

    async def whoami(self, request: web.Request) -> Answer:
        """Describe the caller."""
        return json_answer(whoami(self.world.access.needs(self.world.caller(request))))

    async def dataset(self, request: web.Request) -> Answer:
        """Say that a dataset exists; nothing more is known of it."""
        name = request.match_info["dataset"]
        if name not in self.world.datasets:
            raise repo_not_found(anonymous=self.world.caller(request) is None)
        return json_answer({"id": name, "private": False})

    async def create(self, request: web.Request) -> Answer:
        """Create a model repository."""
        world = self.world
        caller = world.access.needs(world.caller(request))
        payload = await self.intake.json(request)
        if payload.get("type") not in {None, "model"}:
            raise bad_request('"type" must be "model": this Hub holds models only')
        visibility = payload.get("visibility")
        if visibility not in {None, "public", "private"}:
            raise bad_request('"visibility" must be one of [public, private]')
        namespace = payload.get("organization") or caller.user.name
        name = check_repo_name(payload.get("name"))
        world.access.check_create(caller, namespace)
        repo_id = f"{namespace}/{name}"
        url = f"{world.endpoint}/{repo_id}"
        if repo_id in world.repos:
            raise RefusedError(409, "You already created this model repo", body={"url": url})
        private = visibility == "private" if visibility else bool(payload.get("private"))
        repo = world.new_repo(repo_id, private=private, creator=caller.user.name)
        return json_answer({"url": url, "name": repo_id, "id": repo_id, "private": repo.private})

    async def info(self, request: web.Request) -> Answer:
        """Describe a repository at a revision."""
        repo = self.world.readable(request)
        commit = repo.resolve(request.match_info.get("revision", "main"))
        tree = self.world.tamper.listed(repo.id, commit.tree)
        blobs = request.query.get("blobs", "").lower() in {"1", "true"}
        return json_answer(describe_model(repo, commit, tree, self.world.card_of(commit), blobs=blobs))

    async def commits(self, request: web.Request) -> Answer:
        """List the history of a revision, a page at a time."""
        repo = self.world.readable(request)
        try:
            page, limit = int(request.query.get("p", 0)), int(request.query.get("limit", _COMMITS_PAGE))
        except ValueError as error:
            raise bad_request(f"Invalid page: {error}") from error
        history = repo.commits(request.match_info["revision"])
        start = page * limit
        headers = {"X-Total-Count": str(len(history))}
        if start + limit < len(history):
            following = request.rel_url.update_query(p=str(page + 1), limit=str(limit))
            headers["Link"] = f'<{self.world.endpoint}{following}>; rel="next"'
        return json_answer(
            [describe_commit(commit) for commit in history[start : start + limit]], headers=headers
        )

    async def refs(self, request: web.Request) -> Answer:
        """List branches and tags."""
        repo = self.world.readable(request)
        answer = {
            "branches": [_ref("heads", name, oid) for name, oid in repo.branches.items()],
            "converts": [],
            "tags": [_ref("tags", name, oid) for name, oid in repo.tags.items()],
        }
        return json_answer(answer | ({"pullRequests": []} if request.query.get("include_prs") else {}))

    async def create_branch(self, request: web.Request) -> Answer:
        """Create a branch at `startingPoint`, by default the head of main."""
        repo = self.world.writable(request)
        branch = check_ref_name(request.match_info["branch"])
        start = (await self.intake.json(request)).get("startingPoint") or "main"
        with repo.lock:
            if branch in repo.branches:
                raise RefusedError(409, f"Reference refs/heads/{branch} already exists")
            repo.branches[branch] = repo.resolve(start).oid
        return Answer()

    async def delete_branch(self, request: web.Request) -> Answer:
        """Delete a branch other than main."""
        repo = self.world.writable(request)
        branch = request.match_info["branch"]
        if branch == "main":
            raise forbidden("Cannot delete the default branch")
        with repo.lock:
            if repo.branches.pop(branch, None) is None:
                raise revision_not_found(branch)
        return Answer()

    async def create_tag(self, request: web.Request) -> Answer:
        """Tag a revision."""
        repo = self.world.writable(request)
        tag = check_ref_name((await self.intake.json(request)).get("tag"))
        with repo.lock:
            target = repo.resolve(request.match_info["revision"]).oid
            if tag in repo.tags:
                raise RefusedError(409, f"Tag reference exists already: refs/tags/{tag}")
            repo.tags[tag] = target
        return Answer()

    async def delete_tag(self, request: web.Request) -> Answer:
        """Delete a tag."""
        repo = self.world.writable(request)
        tag = request.match_info["tag"]
        with repo.lock:
            if repo.tags.pop(tag, None) is None:
                raise revision_not_found(tag)
        return Answer()


def _ref(kind: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}
