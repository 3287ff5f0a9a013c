"""What the Hub will say to a publication, found out before there is one: every request only reads.

Whether content may be written to a repo that exists, the Hub itself decides: it hands out a write token
for its storage, by GET, only to whoever may (https://huggingface.co/docs/xet/auth). How much private
storage is left it says in no answer to a reader. A namespace that is full is recognised where the Hub
refuses that token; else only what is written meets the refusal.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent.clocks import ahead_s
from agent.errors import ConfigError, HubRefusedError
from agent.hub import rights
from agent.hub.client import NOT_FOUND, HubClient
from agent.hub.naming import repo_id_for
from agent.hub.repo import Repo
from agent.retry import READ, RemoteFailure
from agent.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    import httpx2

    from agent.config import Config
    from agent.hub.repo import Commit, RepoState
    from agent.hub.rights import Token
    from agent.retry import Patience

_ROLES = {"read": "a read token", "write": "a write token", "fineGrained": "a fine-grained token"}
_QUOTA = "how much private storage is left the Hub tells only when something is written"


class _Client(HubClient):
    """A client that keeps the Hub's clock and whose token it holds."""

    def __init__(self, config: Config, patience: Patience, now: Callable[[], datetime]) -> None:
        super().__init__(endpoint=config.endpoint, token=config.token, patience=patience)
        self._now = now
        self.ahead_s: float | None = None
        self.token: Token | None = None

    def username(self) -> str:
        """The token's user, asked once."""
        return self.token.user if self.token else super().username()

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:  # noqa: ANN401 - as inherited
        response = super()._send(method, path, **options)
        self.ahead_s = ahead_s(self._now(), response.headers)
        return response


class HubSurvey:
    """The Hub as a finalize with this configuration will meet it.

    Args:
        config: what was asked for.
        patience: how long the Hub may take.
        now: the time in UTC.
        is_model_file: whether a path of the repo is replaced by a publication.

    Attributes:
        model_url: where the model will be found; None as long as it is not known.
    """

    def __init__(
        self,
        config: Config,
        patience: Patience,
        now: Callable[[], datetime],
        is_model_file: Callable[[str], bool],
    ) -> None:
        self._config, self._now, self._is_model_file = config, now, is_model_file
        self._client = _Client(config, patience, now)
        self.model_url: str | None = None

    @property
    def ahead_s(self) -> float | None:
        """By how many seconds our clock is ahead of the Hub's; None: it told no time."""
        return self._client.ahead_s

    def ask(self) -> Iterator[Check]:
        """Look at token, rights and repo.

        Raises:
            HubAuthError, HubRefusedError, HubUnreachableError: as finalize would meet them.
        """
        client = self._client
        token = client.ask(
            READ,
            "ask the Hub whose token this is",
            lambda: rights.read_token(client.get("/api/whoami-v2")),
        )
        client.token = token
        yield Check.fine("token", f"{token.name}, {_ROLES.get(token.role or '', 'a token')} of {token.user}")
        yield from rights.age(token, self._now())
        try:
            repo_id = repo_id_for(self._config, client)
        except ConfigError as error:
            yield Check.refused("repo name", error)
            return
        repo = Repo(client, repo_id, self._config.revision)
        state = repo.look()
        self.model_url = repo.url
        yield self._may_write(token, repo, state)
        yield from rights.breadth(token, repo_id, exists=state.exists)
        yield from self._repo(token, repo, state)

    def _may_write(self, token: Token, repo: Repo, state: RepoState) -> Check:
        described = rights.may_write(token, repo.repo_id, exists=state.exists)
        if not state.exists:
            return described
        revision = quote(repo.branch if state.head else "main", safe="")
        route = f"/api/models/{repo.repo_id}/xet-write-token/{revision}"
        try:
            with _unlogged():
                self._client.attempts(READ, lambda: self._client.get(route))
        except RemoteFailure as failure:
            if failure.status == NOT_FOUND:  # a Hub without xet storage
                return described
            error = self._client.explain(failure, f"open the storage of {repo.repo_id}")
            if failure.transient:
                raise error from failure
            if isinstance(error, HubRefusedError):
                return Check.refused("private storage" if state.private else "storage", error)
            return described if described.error else Check.refused(described.name, error)
        return Check.fine(described.name, f"the Hub opens the storage of {repo.repo_id} to {token.user}")

    def _repo(self, token: Token, repo: Repo, state: RepoState) -> Iterator[Check]:
        private = self._config.private
        try:
            repo.check_visibility(state, private=private)
        except HubRefusedError as error:
            yield Check.refused("visibility", error)
        if not state.exists:
            yield Check.fine("repo", _free(token, repo.repo_id, public=private is False))
            return
        if not state.private and private is None:
            yield Check.note(
                "visibility",
                f"{repo.repo_id} is public: everybody can download this model",
                "Make it private in the repo's settings, or set HF_REPO_PRIVATE=false if that is meant.",
            )
        yield self._content(repo, state.head)

    def _content(self, repo: Repo, head: Commit | None) -> Check:
        """Whose model a publication will replace."""
        if head is None:
            return Check.fine("repo", f"{repo.repo_id} exists; its branch {repo.branch} will be made")
        when = f" at {head.date:%Y-%m-%d %H:%M} UTC" if head.date else ""
        if head.finalize_id:
            job = head.trailer("Job-Id")
            whose = "this job" if self._config.job_id and job == str(self._config.job_id) else f"job {job}"
            return Check.fine("repo", f"{repo.repo_id} is ours: published{when} for {whose}")
        files = [path for path in repo.tree(head.oid) if self._is_model_file(path)]
        if not files:
            return Check.fine("repo", f"{repo.repo_id} exists and holds no model")
        return Check.note(
            "repo",
            f"{repo.repo_id} holds a model that this agent did not publish ({head.title!r}{when}): "
            f"{len(files)} of its files will be replaced or deleted",
            "Choose another HF_REPO_NAME if it is still wanted; else nothing is to be done.",
        )


def _free(token: Token, repo_id: str, *, public: bool) -> str:
    """A free name; what is private and not for this token looks the same."""
    namespace = repo_id.partition("/")[0]
    shown = not token.fine_grained or any(scope.is_namespace(namespace) for scope in token.scopes)
    free = "is free" if shown else "is free, or private and not shown to this token"
    return f"{repo_id} {free}; it will be public" if public else f"{repo_id} {free}; {_QUOTA}"


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep the transport from logging an answer: its headers hold a token that nobody here asked for."""
    logger = logging.getLogger("httpcore2")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
