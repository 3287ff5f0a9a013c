"""`rollback`: an earlier revision is what the branch holds again, as one new commit, proven.

1. Look: the branch as it is, and the revision to go back to.
2. Intent: what is about to be done is written down. If we die from here on, the same command finishes it.
3. Commit: on top of the head that was seen and nowhere else; readers see the old tree or the new one.
4. Verify: the commit holds exactly the files of that revision.
5. Tell: the audit trail of the job whose model was there. Its row stays as it is: what is completed is final.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agent.artifact import is_model_family
from agent.errors import AgentError, ConfigError, HubRefusedError, Interrupted
from agent.hub.files import ROLLBACK_ID, ROLLBACK_TO, Message
from agent.job import alone
from agent.journal import Journal, Lock
from agent.log import get_logger
from agent.outcome import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config
    from agent.hub.repo import Commit, Entry, Repo
    from agent.hub.restore import Difference
    from agent.retry import Patience

ROLLED_BACK, ALREADY_THERE, DRY_RUN = "rolled-back", "already-there", "dry-run"
_SHORT = 12  # characters of an oid that people read


@dataclass
class Rollback:
    """The answer: where the branch was, where it is, and what that changed.

    `result` is rolled-back, already-there, dry-run, failed or pending. `commit` holds the restored files: a
    new commit, or the branch's head where nothing had to be done.
    """

    to: str
    dry_run: bool = False
    result: str = "failed"
    repo_id: str | None = None
    revision: str | None = None
    model_url: str | None = None
    target: str | None = None
    before: str | None = None
    commit: str | None = None
    restored: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    size_bytes: int = 0
    error: dict[str, str] | None = None

    def failed(self, error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why it ended early; what a rerun can mend is pending."""
        retryable = isinstance(error, Interrupted) or (isinstance(error, AgentError) and error.retryable)
        self.result = "pending" if retryable else "failed"
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """The JSON object that callers read; `to` and `from` are oids."""
        return {
            "result": self.result,
            "repo_id": self.repo_id,
            "revision": self.revision,
            "model_url": self.model_url,
            "commit": self.commit,
            "to": self.target,
            "from": self.before,
            "restored": self.restored,
            "deleted": self.deleted,
            "bytes": self.size_bytes,
            "error": self.error,
        }


def roll_back(config: Config, answer: Rollback, patience: Patience) -> None:
    """Let the branch hold the files of an earlier revision, and prove it.

    Raises:
        HubRefusedError: there is no such revision, somebody committed meanwhile, or the Hub said no.
        VerifyMismatchError: the Hub does not hold what it was told.
        HubUnreachableError: run again; it finishes what was begun.
    """
    from agent.hub.client import HubClient
    from agent.hub.naming import repo_id_for
    from agent.hub.repo import Repo

    if config.token is None and not answer.dry_run:
        raise ConfigError("HF_TOKEN is not set: nothing can be rolled back.", hint="Set a write token.")
    client = HubClient(endpoint=config.endpoint, token=config.token, patience=patience)
    repo = Repo(client, repo_id_for(config, client), config.revision)
    answer.repo_id, answer.revision, answer.model_url = repo.repo_id, repo.branch, repo.url
    folder = _folder(config, repo)
    if answer.dry_run:
        _Story(config, answer, repo, Journal(folder)).look()
        answer.result = DRY_RUN
        return
    with Lock(folder, patience):
        _Story(config, answer, repo, Journal(folder)).run()  # not before: another one may have been at work


def _folder(config: Config, repo: Repo) -> Path:
    """Where the account of this branch is kept: another job's finalize knows nothing of its rollbacks."""
    name = f"{config.endpoint}\n{repo.repo_id}\n{repo.branch}"
    return config.state_dir / f"repo-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class _Story:
    """One rollback; its methods are the steps above."""

    def __init__(self, config: Config, answer: Rollback, repo: Repo, journal: Journal) -> None:
        self.config, self.answer, self.repo, self.journal = config, answer, repo, journal
        self.head: Commit
        self.then: dict[str, Entry]
        self.change: Difference

    def run(self) -> None:
        """Tell it once; what an earlier run had begun is finished first."""
        if self.was_begun():
            self.verify()
            self.tell()
            return
        self.look()
        if self.change:
            self.commit(self.intend())
        else:
            self.answer.commit, self.answer.result = self.head.oid, ALREADY_THERE
            get_logger().info("the branch holds these files already", commit=self.head.oid)
        self.verify()
        self.tell()

    def look(self) -> None:
        """1. Afterwards the head, the revision to go back to and the difference are known."""
        from agent.hub.restore import difference
        from agent.hub.revision import find_revision

        commits = self.repo.commits()
        if not commits:
            raise HubRefusedError(
                f"{self.repo.repo_id} has no branch {self.repo.branch} that this token can see.",
                hint="Correct HF_REPO_NAME or HF_REVISION, or use a token that may read the repo.",
            )
        self.head = commits[0]
        target = find_revision(self.repo, self.answer.to, is_model_family)
        self.then = self.repo.tree(target)
        self.change = difference(self.repo.tree(self.head.oid), self.then)
        self.answer.before, self.answer.target = self.head.oid, target
        self.answer.restored = [entry.path for entry in self.change.restored]
        self.answer.deleted = list(self.change.deleted)
        self.answer.size_bytes = sum(entry.size_bytes for entry in self.change.restored)

    def intend(self) -> Message:
        """2. Afterwards whoever runs the same command again knows what to look for."""
        target = str(self.answer.target)
        facts = [self.config.endpoint, self.repo.repo_id, self.repo.branch, self.head.oid, target]
        rollback_id = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        where = {"repo": self.repo.repo_id, "branch": self.repo.branch}
        what = {"asked": self.answer.to, "to": target, "head": self.head.oid}
        self.journal.keep(rollback={"id": rollback_id, **where, **what})
        return Message(f"Roll back to {target[:_SHORT]}", {ROLLBACK_TO: target, ROLLBACK_ID: rollback_id})

    def commit(self, message: Message) -> None:
        """3. Commit. If we die here, the branch has the old files or the restored ones.

        Raises:
            MovedOnError: somebody committed meanwhile; asked again, it is done on top of that, too.
        """
        from agent.hub.restore import MovedOnError, contents, restore

        target = str(self.answer.target)
        stored = contents(self.repo, target, self.change.restored)
        try:
            self.answer.commit = restore(
                self.repo, head=self.head, stored=stored, deleted=self.change.deleted, message=message
            )
        except MovedOnError:
            self.journal.keep(rollback=None)
            raise
        self.answer.result = ROLLED_BACK

    def was_begun(self) -> bool:
        """Whether an earlier run of this command made its commit, and nobody heard of it.

        Raises:
            MovedOnError: it made none, and somebody else has committed since: that was never seen.
        """
        from agent.hub.restore import find, moved_on, since_then

        begun = self.journal.kept("rollback")
        if not begun:
            return False
        head = next((one for one in self.repo.history() if one.oid == begun.get("head")), None)
        if head is None:
            return False
        newer = since_then(self.repo, head)
        arrived = find(newer, str(begun.get("id")))
        if arrived is None and newer and begun.get("asked") == self.answer.to:
            self.journal.keep(rollback=None)
            raise moved_on(self.repo, newer)
        if arrived is None or begun.get("asked") != self.answer.to:
            return False
        get_logger().info("the commit had arrived", commit=arrived.oid)
        self.then = self.repo.tree(str(begun["to"]))
        self.answer.before, self.answer.target = head.oid, str(begun["to"])
        self.answer.commit, self.answer.result = arrived.oid, ROLLED_BACK
        return True

    def verify(self) -> None:
        """4. Verify: only what passes here may be called restored.

        Raises:
            VerifyMismatchError: the commit holds something else.
        """
        from agent.hub.restore import prove_same

        commit = str(self.answer.commit)
        prove_same(self.repo, commit, self.then)
        get_logger().info("proven", commit=commit, files=len(self.then))

    def tell(self) -> None:
        """5. Tell the audit trail of the job whose model was there; its row is final and stays."""
        done = next((one for one in self.repo.history() if one.oid == self.answer.commit), None)
        if done and done.trailer(ROLLBACK_TO) == self.answer.target:
            self.note(
                repo_id=self.repo.repo_id,
                commit=done.oid,
                rolled_back_to=self.answer.target,
                **self.config.origin,
            )
        self.journal.keep(rollback=None)
        newest = self.repo.commits()[0]
        if newest.oid != self.answer.commit:
            get_logger().warning("the branch has moved on since", commit=newest.oid, title=newest.title)

    def note(self, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Add the event to the trail of the job that was asked for, else of the newest one published here."""
        job = self.config.job_id or self.newest_job()
        if job is None:
            self.journal.note("rolled_back", once=facts["commit"], **facts)
            return
        with alone(self.config, Outcome(), self.config.state_dir / str(job)) as trail:
            trail.note("rolled_back", once=facts["commit"], **facts)

    def newest_job(self) -> UUID | None:
        """The job that published on this branch last; None if its commit names none."""
        told = next((one.trailer("Job-Id") for one in self.repo.history() if one.finalize_id), None)
        try:
            return UUID(told) if told else None
        except ValueError:
            return None
