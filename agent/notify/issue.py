"""The issue of one job: opened when it fails, commented on when it fails again, closed when it is well.

Every step looks first, so that all of it may be done again after an answer was lost or a run died: the
issue is known by its number, else by a marker in its text, and so is each comment. If we die after
anything was written, the next run finds it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.notify import words
from agent.notify.github import GitHub, StatusError
from agent.notify.ledger import channel_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.notify.delivery import Budget
    from agent.notify.ledger import Ledger
    from agent.notify.message import Message

NAME = "github issue"
MOST_PAGES, PAGE = 10, 100
_AGENT = "training-completion-agent"
_GONE = {301, 404, 410}  # moved to another repository, deleted, or never there
_EVENT = re.compile(rf"^<!-- {_AGENT} event=(\S+) -->\s*$", re.MULTILINE)
_WELL = "well"


@dataclass(frozen=True)
class Place:
    """Where the issue is, and what opens it."""

    api: str
    repository: str
    token: str


class Issue:
    """The issue of one job, told of how this run ended.

    Args:
        place: the repository.
        job: what the job is called in the marker.
        message: what to tell.
        ledger: what is remembered of the issue.
        budget: the seconds that are left.
    """

    name = NAME

    def __init__(self, place: Place, job: str, message: Message, ledger: Ledger, budget: Budget) -> None:
        self._place, self._job, self._message, self._ledger = place, job, message, ledger
        self._budget = budget
        self._where = channel_key(f"{place.api}/{place.repository}/{job}")
        self._event = os.urandom(8).hex() if message.kind == "failure" else _WELL

    @property
    def is_told(self) -> bool:
        """Whether this happened before, and the issue says so."""
        known = self._ledger.issue
        return self._message.final and known.get("said") == self._message.event and self._is_here

    def tell(self, left_s: float) -> str | None:
        """Let the issue say it; None if there is none and none is needed.

        Raises:
            NotToldError: it does not, or nobody knows; telling again changes nothing that was done.
        """
        over = self._budget.clock() + left_s
        place = self._place
        with GitHub(place.api, place.repository, place.token, lambda: over - self._budget.clock()) as github:
            told = self._say_failed(github) if self._message.kind == "failure" else self._say_well(github)
        self._ledger.remember_issue(said=self._message.event, where=self._where)
        return told

    @property
    def _is_here(self) -> bool:
        return self._ledger.issue.get("where") == self._where

    def _open(self, github: GitHub) -> str:
        title = words.plain(
            f"Training job {self._job}: {self._message.headline.partition(':')[0].lower()}", 200
        )
        made = github.send("POST", "/issues", {"title": title, "body": self._body()})
        return self._remember(made, "opened")

    def _say_failed(self, github: GitHub) -> str:
        issue = self._find(github, "all")
        if issue is None:
            return self._open(github)
        if self._event not in _events(issue) and self._event not in self._said(github, issue):
            self._comment(github, issue)
        if issue.get("state") == "closed":
            github.send("PATCH", _path(issue), {"state": "open", "state_reason": "reopened"})
            return self._remember(issue, "reopened")
        return self._remember(issue, "commented on")

    def _say_well(self, github: GitHub) -> str | None:
        issue = self._find(github, "open")
        if issue is None or issue.get("state") == "closed":
            return None
        if self._said(github, issue)[-1:] != [_WELL]:
            self._comment(github, issue)
        github.send("PATCH", _path(issue), {"state": "closed", "state_reason": "completed"})
        return self._remember(issue, "closed")

    def _comment(self, github: GitHub, issue: dict[str, Any]) -> None:
        body = f"{self._message.markdown}\n\n<!-- {_AGENT} event={self._event} -->"
        github.send("POST", f"{_path(issue)}/comments", {"body": body})

    def _find(self, github: GitHub, state: str) -> dict[str, Any] | None:
        """The issue as it is now: by the number that is remembered, else by its marker."""
        number = self._ledger.issue.get("number") if self._is_here else None
        if isinstance(number, int):
            try:
                return github.send("GET", f"/issues/{number}")
            except StatusError as error:
                if error.status not in _GONE:
                    raise
        return next(self._marked(github, state), None)

    def _marked(self, github: GitHub, state: str) -> Iterator[dict[str, Any]]:
        """The issues that carry our marker, newest first; by listing, because GitHub's search lags behind."""
        begins = f"<!-- {_AGENT} job={self._job} "
        for page in range(1, MOST_PAGES + 1):
            query = f"?state={state}&sort=created&direction=desc&per_page={PAGE}&page={page}"
            listed = github.page(f"/issues{query}")
            for one in listed:
                lines = (one.get("body") or "").splitlines()
                if "pull_request" not in one and any(line.startswith(begins) for line in lines):
                    yield one
            if len(listed) < PAGE:
                return

    @staticmethod
    def _said(github: GitHub, issue: dict[str, Any]) -> list[str]:
        """The events that its newest comments tell of, oldest first."""
        said: list[str] = []
        page = max(1, -(-int(issue.get("comments") or 0) // PAGE))
        while True:
            query = f"?per_page={PAGE}&page={page}"
            listed = github.page(f"{_path(issue)}/comments{query}")
            said += [event for one in listed for event in _events(one)]
            if len(listed) < PAGE:
                return said
            page += 1

    def _body(self) -> str:
        repo = re.sub(r"[^\w./-]", "", self._message.repo) or "unknown"
        marker = f"<!-- {_AGENT} job={self._job} repo={repo} -->"
        return f"{self._message.markdown}\n\n{marker}\n<!-- {_AGENT} event={self._event} -->"

    def _remember(self, issue: dict[str, Any], what: str) -> str:
        self._ledger.remember_issue(number=issue["number"], where=self._where)
        return f"{what} #{issue['number']}"


def _path(issue: dict[str, Any]) -> str:
    return f"/issues/{int(issue['number'])}"


def _events(told: dict[str, Any]) -> list[str]:
    return _EVENT.findall(told.get("body") or "")
