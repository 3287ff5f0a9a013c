"""`verify`: whether a repo holds what was published, told from what the Hub lists; nothing is changed.

1. Which: the repo, and the one commit that everything below looks at.
2. Against what: the repo's own finalize.json, one that was kept elsewhere, or the folder it came from.
3. Files: each with the size and the hashes that the witness names; no other model file beside them.
4. Whole: what headers, indexes and configs promise is there, also where a manifest lies or none is there.
5. Page: the Hub takes it, it speaks of this publication, its base model can be found.
6. Bytes, if asked for: every one is read back and hashed.
7. Verdict: proven only if nothing is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, HubAuthError, HubRefusedError, VerifyMismatchError
from agent.hub.files import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config
    from agent.hub.client import HubClient
    from agent.hub.repo import Repo
    from agent.retry import Patience
    from agent.verification.examination import Examination
    from agent.verification.flaws import Flaw

_NAMED = 5  # findings that a sentence names


@dataclass
class Verification:
    """What was asked for, and what was found; true at every moment."""

    against: Path | None = None
    revision: str | None = None
    download: bool = False
    repo_id: str | None = None
    commit: str | None = None
    model_url: str | None = None
    examination: Examination | None = None
    mismatch: bool = False
    error: dict[str, str] | None = None

    @property
    def witness(self) -> str:
        """What the repo is compared with."""
        return str(self.against or MANIFEST)

    @property
    def flaws(self) -> list[Flaw]:
        """What was found so far."""
        return self.examination.flaws if self.examination else []

    def failed(self, error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note what is wrong with the repo, or why that could not be told."""
        self.mismatch = isinstance(error, VerifyMismatchError)
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: the verdict, every file, every finding with its cure."""
        seen = self.examination
        return {
            "result": "verified" if self.error is None else "mismatch" if self.mismatch else "failed",
            "repo_id": self.repo_id,
            "revision": self.revision,
            "commit": self.commit,
            "model_url": self.model_url,
            "against": self.witness,
            "files": seen.files() if seen else [],
            "findings": [flaw.as_json() for flaw in self.flaws],
            "downloaded_bytes": seen.content.read_bytes if seen else 0,
            "error": self.error,
        }


def verify(config: Config, answer: Verification, patience: Patience) -> None:
    """Fill in the answer.

    Raises:
        ConfigError: no repo is named, or nothing is at --against.
        ArtifactError: there is no model in the folder to compare with.
        HubAuthError, HubRefusedError: the repo cannot be seen, or has no such revision.
        VerifyMismatchError: the repo is not what was published; every finding is in the answer.
        HubUnreachableError: the Hub did not answer.
    """
    from agent.hub.client import HubClient
    from agent.verification.examination import Examination
    from agent.verification.witness import open_witness

    answer.revision = answer.revision or config.revision
    witness = open_witness(config, answer.against) if answer.against else None
    client = HubClient(endpoint=config.endpoint, token=config.token, patience=patience)
    try:
        repo = _find(config, answer, client)
        seen = answer.examination = Examination(repo, str(answer.commit), witness)
        seen.compare()
        seen.judge()
        if answer.download:
            seen.download()
    except HubAuthError as error:
        raise _unreadable(error, config, answer) from error
    refusal = _refusal(answer)
    if refusal:
        raise refusal


def _find(config: Config, answer: Verification, client: HubClient) -> Repo:
    """The repo, and the commit that the revision names now."""
    from agent.hub.naming import repo_id_for
    from agent.hub.repo import Repo

    repo = Repo(client, repo_id_for(config, client), str(answer.revision))
    answer.repo_id, answer.model_url = repo.repo_id, repo.url
    answer.commit = repo.resolve(repo.branch)
    if answer.commit is None:
        if repo.look().exists:
            raise HubRefusedError(
                f"{repo.repo_id} has no revision {repo.branch}.",
                hint="Name a branch, a tag such as job-1a2b3c4d or a full commit id with --revision.",
            )
        raise HubRefusedError(
            f"There is no repo {repo.repo_id} on {client.endpoint}, or this token may not see it.",
            hint="Correct the name (HF_REPO_NAME), or set HF_TOKEN to a token that may read it.",
        )
    return repo


def _unreadable(error: HubAuthError, config: Config, answer: Verification) -> AgentError:
    """The same refusal with a hint for somebody who only wants to read."""
    what = answer.repo_id or "the repo"
    if config.token is None:
        hint = f"Set HF_TOKEN to a token that may read {what}; without one only public repos are seen."
    else:
        hint = f"Set HF_TOKEN to a token that may read {what}, and ask for access on its page if it is gated."
    return HubAuthError(error.message, hint=hint)


def _refusal(answer: Verification) -> VerifyMismatchError | None:
    from agent.verification.flaws import printable

    refused = [flaw for flaw in answer.flaws if flaw.refuses]
    if not refused:
        return None
    told = "; ".join(flaw.sentence for flaw in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    cures = dict.fromkeys(flaw.cure for flaw in refused[:_NAMED])
    return VerifyMismatchError(
        f"{answer.repo_id} at {answer.commit} is not what {answer.witness} says: {told}{more}.",
        hint=f"{'. '.join(map(printable, cures))}.",
    )
