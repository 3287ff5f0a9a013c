"""Whether those who are to hear of the job can be told, found out before there is something to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.notify.channel import INSTALL, load
from agent.notify.failure import NotToldError
from agent.notify.github import GitHub
from agent.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config import Config

NAME = "notifications"


def ask(config: Config, left_s: Callable[[], float]) -> Iterator[Check]:
    """Look at every address and at the repository of the issues; nothing is sent to anybody.

    Args:
        config: as finalize will have it.
        left_s: seconds that are left.
    """
    if config.notify_urls:
        yield _addresses(config)
    if config.github_token and config.github_repository:
        yield _issues(
            config.github_api, config.github_repository, config.github_token.get_secret_value(), left_s
        )
    elif config.github_token:
        yield Check.note(
            NAME,
            "GITHUB_TOKEN without GITHUB_REPOSITORY opens no issue",
            "Set GITHUB_REPOSITORY to owner/name.",
        )


def _addresses(config: Config) -> Check:
    wrong = []
    for number, url in enumerate(config.notify_urls, 1):
        try:
            load(url.get_secret_value())
        except ModuleNotFoundError:
            return Check.note(
                NAME, "apprise is not installed: AGENT_NOTIFY_URLS tells nobody", f"Run: {INSTALL}"
            )
        except NotToldError:
            wrong.append(f"{number} ({url.get_secret_value().partition('://')[0]})")
    several = len(config.notify_urls) > 1
    if wrong:
        return Check.note(
            NAME,
            f"apprise takes no such address: {', '.join(wrong)} of AGENT_NOTIFY_URLS",
            "Compare it with apprise's page on that service; what is told there is told to nobody.",
        )
    told = (
        f"{len(config.notify_urls)} addresses that apprise takes"
        if several
        else "an address that apprise takes"
    )
    return Check.fine(NAME, f"{told}; whether a message arrives shows when there is one")


def _issues(api: str, repository: str, token: str, left_s: Callable[[], float]) -> Check:
    try:
        with GitHub(api, repository, token, left_s) as github:
            found = github.send("GET")
    except NotToldError as failure:
        return Check.note(
            NAME, f"no issue would be opened: {failure.words}", "Correct it, or unset GITHUB_TOKEN."
        )
    if found.get("has_issues") is False or found.get("archived") is True:
        why = "is archived" if found.get("archived") else "has its issues turned off"
        return Check.note(
            NAME, f"{repository} {why}: no issue would be opened", "Name another GITHUB_REPOSITORY."
        )
    return Check.fine(
        NAME, f"GITHUB_TOKEN sees {repository}; whether it may open issues shows when it does (issues: write)"
    )
