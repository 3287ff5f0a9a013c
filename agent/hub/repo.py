"""One repo as it is now: visibility, recent commits, tree, and the manifest of what we put there last."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from huggingface_hub.errors import HfHubHTTPError

from agent.errors import HubRefusedError
from agent.hub.client import NOT_FOUND
from agent.hub.files import MANIFEST
from agent.log import get_logger
from agent.retry import READ, WRITE, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.hub.client import HubClient

T = TypeVar("T")

_CONFLICT = 409
_LOOK_BACK = 50  # commits searched for ours: one page, far more than can land during one finalize


@dataclass(frozen=True)
class Commit:
    """One commit of a branch; `message` is everything below the title."""

    oid: str
    title: str
    message: str
    date: datetime | None

    def trailer(self, name: str) -> str | None:
        """The value of a `Name: value` line in the message."""
        found = re.search(rf"^{name}: (\S+)$", self.message, re.MULTILINE)
        return found[1] if found else None

    @property
    def finalize_id(self) -> str | None:
        """The identity of the publication this commit made, if this agent made it."""
        return self.trailer("Finalize-Id")


@dataclass(frozen=True)
class Entry:
    """One file of a tree: `oid` is git's blob id; `sha256` is set for LFS content, `xet_hash` for xet."""

    path: str
    size_bytes: int
    oid: str
    sha256: str | None
    xet_hash: str | None


@dataclass(frozen=True)
class RepoState:
    """What the Hub says about the repo; `private` is None when there is no repo we can see."""

    private: bool | None
    commits: tuple[Commit, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the repo is there and visible to this token."""
        return self.private is not None

    @property
    def head(self) -> Commit | None:
        """The newest commit of the branch; None when repo or branch do not exist yet."""
        return self.commits[0] if self.commits else None


class Repo:
    """Access to one branch of one model repo."""

    def __init__(self, client: HubClient, repo_id: str, branch: str) -> None:
        self.client, self.repo_id, self.branch = client, repo_id, branch
        self._api = f"/api/models/{repo_id}"
        self._contents: dict[tuple[str, str], bytes] = {}

    @property
    def url(self) -> str:
        """Where a person finds the model."""
        page = f"{self.client.endpoint}/{self.repo_id}"
        return page if self.branch == "main" else f"{page}/tree/{self.branch}"

    def look(self) -> RepoState:
        """Ask for visibility and the branch's newest commits."""
        private = self._get_or_none("look at the repo", lambda: bool(self.client.get(self._api)["private"]))
        return RepoState(private) if private is None else RepoState(private, self.commits())

    def commits(self) -> tuple[Commit, ...]:
        """The branch's newest commits, newest first; none when the branch does not exist."""
        route = f"{self._api}/commits/{quote(self.branch, safe='')}"
        found = self._get_or_none(
            "read the branch's history", lambda: _commits(self.client.get(route, limit=str(_LOOK_BACK)))
        )
        return found or ()

    def history(self) -> Iterator[Commit]:
        """All commits of the branch, newest first, asked for as far as somebody reads."""
        following: str | None = f"{self._api}/commits/{quote(self.branch, safe='')}"
        while following:
            route = following

            def page(route: str = route) -> tuple[tuple[Commit, ...], str | None]:
                items, after = self.client.get_page(route)
                return _commits(items), after

            commits, following = self.client.ask(READ, f"read the history of {self.repo_id}", page)
            yield from commits

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or an oid names; None if the repo has no such revision."""
        route = f"{self._api}/revision/{quote(revision, safe='')}"
        return self._get_or_none(f"look for {revision} in", lambda: str(self.client.get(route)["sha"]))

    def tree(self, revision: str) -> dict[str, Entry]:
        """Every file of a revision by its path."""
        route = f"{self._api}/tree/{quote(revision, safe='')}"
        return self.client.ask(
            READ,
            f"list the files of {self.repo_id}",
            lambda: _entries(self.client.get_all(route, recursive="true")),
        )

    def read(self, oid: str, path: str) -> bytes:
        """The content of a small file at a commit, fetched once."""
        if (oid, path) not in self._contents:
            self._contents[oid, path] = self.client.ask(
                READ, f"read {path} of {self.repo_id}", lambda: self.client.read(self.repo_id, oid, path)
            )
        return self._contents[oid, path]

    def manifest(self, oid: str) -> dict[str, Any]:
        """Our manifest at a commit that has one; an empty one when it is damaged."""
        try:
            found = json.loads(self.read(oid, MANIFEST))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def manifest_files(self, oid: str) -> dict[str, dict[str, Any]]:
        """The files our manifest at a commit names, with what it says of each."""
        listed = self.manifest(oid).get("files")
        return {
            item["path"]: item
            for item in (listed if isinstance(listed, list) else ())
            if isinstance(item, dict) and isinstance(item.get("path"), str)
        }

    def ensure(self, state: RepoState, *, private: bool | None) -> RepoState:
        """Make repo and branch exist; a new repo has the visibility that was asked for, or is private.

        A lost answer of either creation is harmless: both are asked with "fine if it exists".

        Raises:
            HubRefusedError: somebody else created it meanwhile, with the other visibility.
        """
        if not state.exists:
            self.client.ask(
                WRITE,
                f"create the repo {self.repo_id}",
                lambda: self.client.api.create_repo(
                    self.repo_id, private=private is not False, exist_ok=True
                ),
            )
            get_logger().info("created the repo", repo=self.repo_id, private=private is not False)
            state = self.look()
            self.check_visibility(state, private=True if private is None else private)
        elif private is None and not state.private:
            get_logger().warning("the repo is public: everybody can download this model", repo=self.repo_id)
        if not state.head:
            self.client.ask(
                WRITE,
                f"create the branch {self.branch}",
                lambda: self.client.api.create_branch(self.repo_id, branch=self.branch, exist_ok=True),
            )
            state = RepoState(state.private, self.commits())
        return state

    def check_visibility(self, state: RepoState, *, private: bool | None) -> None:
        """Refuse before a byte is sent when the repo is not as private, or public, as asked.

        Raises:
            HubRefusedError: it is not.
        """
        if state.exists and private is not None and private != state.private:
            is_now, asked = ("private", "false") if state.private else ("public", "true")
            raise HubRefusedError(
                f"The repo {self.repo_id} is {is_now}, but HF_REPO_PRIVATE={asked}; nothing was sent.",
                hint="Change its visibility in the repo's settings, choose another HF_REPO_NAME, "
                "or unset HF_REPO_PRIVATE.",
            )

    def tag(self, name: str, oid: str, *, move: bool) -> None:
        """Point a tag at a commit; after a lost answer it is looked up.

        Args:
            name: the tag.
            oid: the commit.
            move: the tag is likely to point to an earlier commit of the same job.
        """

        def attempt() -> None:
            if move:
                self._delete_tag(name)
            try:
                self.client.api.create_tag(self.repo_id, tag=name, revision=oid)
            except HfHubHTTPError as error:
                if error.response.status_code != _CONFLICT:
                    raise
                if self._tag_target(name) != oid:
                    self._delete_tag(name)
                    self.client.api.create_tag(self.repo_id, tag=name, revision=oid)

        self.client.ask(WRITE, f"tag the commit as {name}", attempt)

    def _delete_tag(self, name: str) -> None:
        try:
            self.client.api.delete_tag(self.repo_id, tag=name)
        except HfHubHTTPError as error:
            if error.response.status_code != NOT_FOUND:
                raise

    def _tag_target(self, name: str) -> str | None:
        tags = self.client.get(f"{self._api}/refs").get("tags", [])
        return next((tag["targetCommit"] for tag in tags if tag["name"] == name), None)

    def _get_or_none(self, what: str, get: Callable[[], T]) -> T | None:
        try:
            return self.client.attempts(READ, get)
        except RemoteFailure as failure:
            if failure.status == NOT_FOUND:
                return None
            raise self.client.explain(failure, f"{what} {self.repo_id}") from failure


# Read inside the attempt: an answer of another shape is one that cannot be read, and is asked for again.
def _commits(items: list[dict[str, Any]]) -> tuple[Commit, ...]:
    return tuple(
        Commit(item["id"], item["title"] or "", item["message"] or "", _date(item.get("date")))
        for item in items
    )


def _entries(items: list[dict[str, Any]]) -> dict[str, Entry]:
    entries = {}
    for item in items:
        if item["type"] == "file":
            lfs = item.get("lfs") or {}
            entries[item["path"]] = Entry(
                item["path"], item["size"], item["oid"], lfs.get("oid"), item.get("xetHash")
            )
    return entries


def _date(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
