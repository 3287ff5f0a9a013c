"""Which publication this is, and whether the branch has it: told by trailers of commits, never by memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent import artifact
from agent.errors import ArtifactError
from agent.hub.files import MANIFEST, ROLLBACK_TO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from agent.config import Config
    from agent.hub.repo import Commit, Repo, RepoState


@dataclass(frozen=True)
class Identity:
    """Who publishes what: the same inputs always give the same ids."""

    job_id: UUID
    content_id: str
    finalize_id: str

    @property
    def tag(self) -> str:
        """The tag on the newest commit of this job."""
        return f"job-{self.job_id.hex[:8]}"


def identify(config: Config, repo_id: str, sha256s: Mapping[str, str]) -> Identity:
    """Name the publication of these files; a job nobody named is named after its content."""
    content = artifact.content_id(sha256s, repo_id=repo_id, revision=config.revision)
    job_id = config.job_id or artifact.local_job_id(content)
    return Identity(job_id, content, artifact.finalize_id(job_id, content))


def find(state: RepoState, job_id: UUID | None, finalize_id: str) -> Commit | None:
    """The commit that already made this publication, if the branch has it.

    A job that was published stays published when another job's model came after it. If the job
    itself published something else since, or has no name and so is only its content, this model is
    wanted again.
    """
    for commit in state.commits:
        if commit.finalize_id == finalize_id:
            return commit
        if commit.finalize_id and (job_id is None or commit.trailer("Job-Id") == str(job_id)):
            return None
    return None


def rolled_back(state: RepoState, ours: Commit) -> str | None:
    """What became of our commit, if somebody went back to a state of the branch from before it; else None."""
    by = back_to = None
    for commit in state.commits:
        undone = back_to is not None and commit.oid != back_to
        if commit.oid == ours.oid:
            if by is None or not undone:
                return None
            said = f"published at {ours.oid[:12]}, and rolled back since by {by.oid[:12]}"
            return f"{said}; `rollback --to {ours.oid[:12]}` brings it back"
        if not undone:
            back_to = commit.trailer(ROLLBACK_TO)
            by = commit if back_to else by
    return None


def published_by_another(state: RepoState, identity: Identity) -> str | None:
    """The job under whose name the branch already holds exactly this content; None if there is none.

    A publication without a job id is nobody's: its id was made from the content.
    """
    nobodys = str(artifact.local_job_id(identity.content_id))
    for commit in state.commits:
        job = commit.trailer("Job-Id")
        if commit.trailer("Content-Id") == identity.content_id and job not in {None, nobodys}:
            return None if job == str(identity.job_id) else job
    return None


def refuse_anothers(state: RepoState, identity: Identity, url: str) -> None:
    """Refuse a model that another job has published: it is not what this job trained.

    Raises:
        ArtifactError: naming that job.
    """
    other = published_by_another(state, identity)
    if other:
        raise ArtifactError(
            f"{url} already holds exactly this model, published by job {other}: it is not what "
            f"job {identity.job_id} trained.",
            hint="Did the training save elsewhere? Set OUTPUT_DIR, or AGENT_ALLOW_STALE=true to publish "
            "it again.",
        )


def may_be_published(state: RepoState, newest_mtime_ns: int) -> bool:
    """Whether it is worth reading all files to find out if the branch has them already.

    A wrong no costs nothing but work: after the upload the history is searched again. The newest commit
    of this job decides, or one of another job: what it published may be these files, forgotten here.
    """
    for commit in state.commits:
        if commit.trailer("Job-Id"):
            return commit.date is None or commit.date.timestamp() * 1e9 >= newest_mtime_ns
    return False


def metrics_before(repo: Repo, state: RepoState, identity: Identity | None) -> Mapping[str, Any] | None:
    """The metrics of the newest model on the branch that is not this publication; None if there is none.

    After a rollback that is the model that was restored, not one of those that were rolled back.
    """
    ours = identity.finalize_id if identity else None
    for commit in state.commits:
        if commit.trailer(ROLLBACK_TO):
            restored = repo.manifest(commit.oid) if MANIFEST in repo.tree(commit.oid) else {}
            return _metrics(restored) if restored else None
        if commit.finalize_id and commit.finalize_id != ours:
            return _metrics(repo.manifest(commit.oid))
    return None


def _metrics(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    found = manifest.get("metrics")
    return found if isinstance(found, dict) else {}
