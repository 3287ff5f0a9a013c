"""How a commit came to be: the commits before it, looked up only if somebody needs to know."""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.card import Manifest
    from agent.hub.repo import Commit, Repo

_LOOK_BACK = 50  # commits: one page


class Past:
    """The newest commits up to one, that one included.

    Args:
        repo: the repo.
        oid: the commit.
    """

    def __init__(self, repo: Repo, oid: str) -> None:
        self._repo, self._oid = repo, oid

    @cached_property
    def commits(self) -> tuple[Commit, ...]:
        """As far back as one page goes, newest first.

        Raises:
            HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
        """
        from agent.hub.repo import Repo

        until_here = Repo(self._repo.client, self._repo.repo_id, self._oid)
        return tuple(islice(until_here.history(), _LOOK_BACK))

    def publication(self, manifest: Manifest) -> Commit | None:
        """The commit that made the publication of a manifest."""
        return next((one for one in self.commits if one.finalize_id == manifest.finalize_id), None)

    def other_publications(self, manifest: Manifest) -> list[Commit]:
        """The commits of the same job that published something else: a training that was repeated."""
        return [
            one
            for one in self.commits
            if one.trailer("Job-Id") == manifest.job and one.finalize_id not in {None, manifest.finalize_id}
        ]
