"""Refusals in the Hub's own words."""

from typing import Any

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.refused import RefusedError


def refusal(error: RefusedError) -> Answer:
    """Put a refusal into the three headers and the body the Hub uses."""
    headers = {"X-Error-Message": " ".join(error.message.split()), **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    body: dict[str, Any] = {"error": error.message, **error.body}
    return json_answer(body, status=error.status, headers=headers)


def bad_request(message: str, **body: object) -> RefusedError:
    """400: the request itself is wrong; sending it again will not help."""
    return RefusedError(400, message, body=body)


def bad_credentials() -> RefusedError:
    """401 for a token the Hub does not know."""
    return RefusedError(401, "Invalid credentials in Authorization header")


def forbidden(message: str) -> RefusedError:
    """403: known, but not allowed."""
    return RefusedError(403, message)


def private_storage_full() -> RefusedError:
    """403 that no retry mends: the namespace's quota for private repositories is used up."""
    return forbidden(
        "Private repository storage limit reached, "
        "please upgrade your plan to increase your private storage limit."
    )


def repo_not_found(*, anonymous: bool) -> RefusedError:
    """401 without a token, 404 with one: the Hub does not tell a missing repository from a private one."""
    if anonymous:
        return RefusedError(401, "Invalid username or password.", code="RepoNotFound")
    return RefusedError(404, "Repository not found", code="RepoNotFound")


def revision_not_found(revision: str) -> RefusedError:
    """404 for a branch, tag or commit the repository does not have."""
    return RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(message: str, *, commit: str | None = None) -> RefusedError:
    """404 for a path that the revision does not have."""
    headers = {"X-Repo-Commit": commit} if commit else None
    return RefusedError(404, message, code="EntryNotFound", headers=headers)
