"""What a person means by an earlier revision: a commit, a tag, a job, a branch, or the one before."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from agent.errors import HubRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.hub.repo import Repo

PREVIOUS = "previous"
_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")
_OF_A_JOB = re.compile(r"job-([0-9a-f]{8})")


def find_revision(repo: Repo, asked: str, is_model_file: Callable[[str], bool]) -> str:
    """Return the oid of the commit that is meant.

    `previous` is what the branch held before its newest publication. A rollback is no publication, so this is
    the same revision however often it is asked for.

    Args:
        repo: the repo, and the branch that `previous` is about.
        asked: an oid or its beginning, a tag, `job-` and eight characters of a job's id, a branch, or
            `previous`.
        is_model_file: tells files that make a model.

    Raises:
        HubRefusedError: there is no such revision.
    """
    if asked == PREVIOUS:
        return _previous(repo, is_model_file)
    found = repo.resolve(asked) or _by_beginning(repo, asked) or _by_job(repo, asked)
    if found is None:
        commits = f"{repo.client.endpoint}/{repo.repo_id}/commits/{repo.branch}"
        raise HubRefusedError(
            f"{repo.repo_id} has no revision {asked!r}.",
            hint=f"Name a commit, a tag such as job-1a2b3c4d or a branch; the commits are at {commits}",
        )
    return found


def _previous(repo: Repo, is_model_file: Callable[[str], bool]) -> str:
    history = repo.history()
    newest = next((one for one in history if one.finalize_id), None)
    before = next(history, None)
    if newest is None:
        why = "no commit on it is a publication of this agent"
    elif before is None or not any(is_model_file(path) for path in repo.tree(before.oid)):
        why = f"there was no model before its only publication, {newest.oid[:12]} ({newest.title})"
    else:
        return before.oid
    raise HubRefusedError(
        f"{repo.repo_id} ({repo.branch}) has no previous model: {why}.",
        hint="Name the commit to go back to: --to REV.",
    )


def _by_beginning(repo: Repo, asked: str) -> str | None:
    if not _ABBREVIATED.fullmatch(asked):
        return None
    found = list(islice((one.oid for one in repo.history() if one.oid.startswith(asked)), 2))
    if len(found) > 1:
        raise HubRefusedError(
            f"{asked} is the beginning of several commits of {repo.repo_id}.",
            hint="Give more characters of it.",
        )
    return found[0] if found else None


def _by_job(repo: Repo, asked: str) -> str | None:
    """The newest publication of a job whose tag is not there."""
    job = _OF_A_JOB.fullmatch(asked)
    if job is None:
        return None
    published = (one for one in repo.history() if one.finalize_id)
    return next((one.oid for one in published if (one.trailer("Job-Id") or "").startswith(job[1])), None)
