"""The state behind the routes, and the switches a test may turn."""

from pathlib import Path
from typing import Any

from aiohttp import web

from agent.sandbox.hub.access import Access, Caller
from agent.sandbox.hub.content import Content
from agent.sandbox.hub.readme import examine
from agent.sandbox.hub.refused import entry_not_found, private_storage_full
from agent.sandbox.hub.repos import Commit, Entry, Repo
from agent.sandbox.hub.tamper import Tamper
from agent.sandbox.hub.tickets import Tickets
from agent.sandbox.hub.upload_mode import DEFAULT_GITATTRIBUTES, UploadRules


class World:
    """Users, repositories and content of one hub.

    Attributes:
        full_private: namespaces whose quota for private repositories is used up.
        xet_enabled: false makes this a Hub without xet storage.
        cas_reachable: false hands out a CAS address nobody listens on.
        tree_page: entries on a page of `tree`.
        multipart_over: size in bytes above which LFS uploads go in parts of `multipart_chunk` bytes.
    """

    def __init__(self, root: Path) -> None:
        self.endpoint = ""
        self.closed_endpoint = ""
        self.access = Access()
        self.repos: dict[str, Repo] = {}
        self.datasets: set[str] = set()
        self.content = Content(root)
        self.tickets = Tickets()
        self.tamper = Tamper()
        self.full_private: set[str] = set()
        self.xet_enabled = True
        self.cas_reachable = True
        self.tree_page = 1000
        self.multipart_over = 2**30
        self.multipart_chunk = 64 * 2**20

    def new_repo(self, repo_id: str, *, private: bool, creator: str) -> Repo:
        """Make a repository with its first commit."""
        repo = Repo(repo_id, private=private, creator=creator)
        tree = {".gitattributes": self.content.add_blob(DEFAULT_GITATTRIBUTES)}
        repo.commit("main", tree, title="initial commit", message="", author=creator)
        self.repos[repo_id] = repo
        return repo

    def caller(self, request: web.Request) -> Caller | None:
        """Return who calls the API (401 for an unknown token)."""
        return self.access.caller(request.headers.get("Authorization"))

    def readable(self, request: web.Request) -> Repo:
        """Return the repository of the URL if the caller may read it."""
        return self.access.check_read(self.caller(request), self.repos.get(request.match_info["repo"]))

    def writable(self, request: web.Request) -> Repo:
        """Return the repository of the URL if the caller may change it."""
        return self.access.check_write(self.caller(request), self.repos.get(request.match_info["repo"]))

    def storable(self, request: web.Request) -> Repo:
        """Return the repository of the URL if the caller may also add content to it."""
        repo = self.writable(request)
        if repo.private and repo.namespace in self.full_private:
            raise private_storage_full()
        return repo

    def bytes_of(self, entry: Entry) -> bytes:
        """Return a whole file."""
        return b"".join(self.content.read(entry))

    def text_at(self, commit: Commit, path: str) -> str:
        """Return a small text file, empty if the commit does not have it."""
        entry = commit.tree.get(path)
        return self.bytes_of(entry).decode(errors="replace") if entry else ""

    def entry_at(self, commit: Commit, path: str) -> Entry:
        """Return a file of a commit (404 EntryNotFound)."""
        entry = commit.tree.get(path)
        if entry is None:
            raise entry_not_found("Entry not found", commit=commit.oid)
        return entry

    def card_of(self, commit: Commit) -> dict[str, Any]:
        """Return the metadata of a commit's model card."""
        return examine(self.text_at(commit, "README.md")).metadata

    def rules_at(self, commit: Commit, gitignore: str | None = None) -> UploadRules:
        """Return the upload rules of a revision; `gitignore` replaces the one it holds."""
        return UploadRules(
            gitattributes=self.text_at(commit, ".gitattributes"),
            gitignore=self.text_at(commit, ".gitignore") if gitignore is None else gitignore,
        )

    def forget_content(self) -> None:
        """Lose all xorbs, xet files and LFS objects that no commit needs: a garbage collection."""
        commits = [commit for repo in list(self.repos.values()) for commit in repo.every_commit()]
        self.content.forget([entry for commit in commits for entry in commit.tree.values()])
