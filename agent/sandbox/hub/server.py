"""The embedded Hub: its routes, its words, and the handles tests turn."""

import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from aiohttp import web

from agent.sandbox.hub.access import MADE, OrgRole, TokenRole
from agent.sandbox.hub.kinds import kind_of
from agent.sandbox.hub.refused import refusal
from agent.sandbox.hub.repos import Entry, Repo
from agent.sandbox.hub.routes_cas import CasRoutes
from agent.sandbox.hub.routes_lfs import LfsRoutes
from agent.sandbox.hub.routes_read import ReadRoutes
from agent.sandbox.hub.routes_repo import RepoRoutes
from agent.sandbox.hub.routes_write import WriteRoutes
from agent.sandbox.hub.scopes import Scope
from agent.sandbox.hub.world import World
from agent.sandbox.loopback.answers import Answer
from agent.sandbox.loopback.body import Intake
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.loopback.server import LoopbackServer


class Hub(LoopbackServer, World):
    """A Hugging Face Hub on 127.0.0.1, running between `start` and `close` or inside `with`.

    Args:
        root: folder for content; without one, a temporary folder that `close` removes.
        rate_bytes_s: bandwidth that all request bodies share.
        latency_s: pause before each answer.
        api_rate_s: API calls per second; more are answered 429.
        port: where to listen; 0 takes a free port.
    """

    limited: ClassVar[frozenset[str]] = frozenset({"api", "token"})

    def __init__(
        self,
        root: Path | None = None,
        rate_bytes_s: float | None = None,
        latency_s: float = 0.0,
        api_rate_s: float | None = None,
        *,
        port: int = 0,
    ) -> None:
        LoopbackServer.__init__(
            self, rate_bytes_s=rate_bytes_s, latency_s=latency_s, calls_s=api_rate_s, port=port
        )
        self._temporary = None if root else Path(tempfile.mkdtemp(prefix="hub-"))
        World.__init__(self, root or self._temporary or Path())

    def close(self) -> None:
        """Stop, end requests under way, and remove content kept in a temporary folder."""
        super().close()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def add_user(
        self,
        name: str,
        *,
        token: str,
        role: TokenRole = "write",
        orgs: dict[str, OrgRole] | None = None,
        scopes: Sequence[Scope] | None = None,
        created_at: str = MADE,
    ) -> None:
        """Add a user with a token, or one more token to a user.

        Args:
            name: of the user.
            token: what proves it.
            role: what kind of token it is.
            orgs: organizations the user is a member of, added to those known.
            scopes: of a fine-grained token; None grants all that its user may do.
            created_at: when the token was made, as the Hub writes times.
        """
        self.access.add(name, token, role, orgs, scopes=scopes, created_at=created_at)

    def repo(self, repo_id: str) -> Repo:
        """Return a repository, or raise KeyError."""
        return self.repos[repo_id]

    def create_repo(self, repo_id: str, *, private: bool = False) -> Repo:
        """Create a repository without asking anybody."""
        return self.new_repo(repo_id, private=private, creator=repo_id.partition("/")[0])

    def add_model(self, repo_id: str) -> Repo:
        """Add a public model that merely exists."""
        return self.create_repo(repo_id)

    def add_dataset(self, dataset_id: str) -> None:
        """Add a dataset that merely exists."""
        self.datasets.add(dataset_id)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        title: str = "Update files",
        description: str = "",
        branch: str = "main",
    ) -> str:
        """Commit as a stranger would, past all checks; None deletes a file. Returns the oid."""
        repo = self.repos[repo_id]
        rules = self.rules_at(repo.resolve(branch))
        added: dict[str, Entry] = {}
        for path, data in files.items():
            if data is not None:
                large = rules.is_large(path, len(data), data[:512])
                added[path] = self.content.add_large(data) if large else self.content.add_blob(data)
        with repo.lock:
            tree = {path: entry for path, entry in repo.resolve(branch).tree.items() if path not in files}
            return repo.commit(branch, tree | added, title=title, message=description, author="stranger").oid

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        """Return a file as a reader would get it."""
        return self.bytes_of(self.entry_at(self.repos[repo_id].resolve(revision), path))

    def routes(self, intake: Intake) -> list[web.RouteDef]:
        """API, Git LFS, xet storage and downloads."""
        rooms = (RepoRoutes, WriteRoutes, LfsRoutes, CasRoutes, ReadRoutes)
        return [route for room in rooms for route in room(self, intake).table()]

    def refusal(self, error: RefusedError) -> Answer:
        """Put a refusal into the Hub's headers and body."""
        return refusal(error)

    def kind_of(self, path: str) -> str:
        """Sort a path into api, lfs, cas, resolve or token."""
        return kind_of(path)

    def user_of(self, request: web.Request) -> str | None:
        """Name the holder of the token or ticket."""
        authorization = request.headers.get("Authorization", "")
        return self.access.name_of(authorization) or self.tickets.user_of(authorization)

    def marks(self, request: web.Request) -> Mapping[str, str]:
        """Echo the client's request id, or make one."""
        return {"X-Request-Id": request.headers.get("X-Amzn-Trace-Id") or f"Root=1-{uuid.uuid4().hex}"}

    def forget(self) -> None:
        """Lose content that nobody committed."""
        self.forget_content()
