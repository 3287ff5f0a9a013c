"""The story: training ended; bring the model to safety, prove it, and tell everybody who waits.

Every step asks the Hub or the row, never a memory of ours. Wherever we die, the same command run
again arrives at the same end: one commit, proven, recorded once.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from agent import artifact, publication
from agent.errors import AgentError, ConfigError, Interrupted, JobRefusedError
from agent.gate import UnknownMetricError
from agent.hashes import HashMemory
from agent.job import Job
from agent.journal import Journal, Lock
from agent.log import get_logger
from agent.plan import plan

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config
    from agent.hub.files import Stored
    from agent.hub.repo import Repo, RepoState
    from agent.outcome import Outcome
    from agent.retry import Patience

MEGA = 1_000_000


def finalize(config: Config, outcome: Outcome, patience: Patience, *, dry_run: bool = False) -> None:
    """Publish the model in the output folder, prove it, and record it.

    Args:
        config: what was asked for (step 1, config, is done by the caller).
        outcome: filled in on the way; true at every moment, also when an error ends this.
        patience: how long to keep trying.
        dry_run: look at everything, change nothing.

    Raises:
        AgentError: with code, exit code and hint; the row says so too, unless a rerun can mend it.
    """
    folder = _folder_of(config)
    with nullcontext() if dry_run else Lock(folder, patience):
        journal = Journal(folder)  # not before: another finalizer may have been writing it
        story = Finalize(config, outcome, patience, journal)
        try:
            story.run(dry_run=dry_run)
        except Interrupted as stop:
            if not dry_run:
                journal.note("interrupted", because=str(stop), steps=outcome.steps)
                story.job.interrupt(stop)
            raise
        except Exception as error:
            if not dry_run:
                story.settle(error)
            raise
        finally:
            story.job.close()


def _folder_of(config: Config) -> Path:
    """The job's folder; a job without a name is known by what it publishes."""
    unnamed = hashlib.sha256(str(config.output_dir.absolute()).encode("utf-8", "surrogateescape"))
    return config.state_dir / str(config.job_id or f"unnamed-{unnamed.hexdigest()[:12]}")


class Finalize:
    """One finalize; its methods are the numbered steps of the design, in order."""

    def __init__(self, config: Config, outcome: Outcome, patience: Patience, journal: Journal) -> None:
        self.config, self.outcome, self.patience, self.journal = config, outcome, patience, journal
        self.memory = HashMemory(config.state_dir / "hashes.json")
        self.job = Job(config, outcome, patience, journal)
        self.sha256s: dict[str, str] = {}
        self.identity: publication.Identity | None = None
        self.commit_oid: str | None = None
        self.sent: list[Stored] = []
        self.made: list[Stored] = []
        self.proven: list[str] = []

    def run(self, *, dry_run: bool) -> None:
        """Tell the whole story once."""
        if not dry_run:
            self.journal.note("started", output_dir=str(self.config.output_dir))
            self.job.deliver()
        with self.outcome.step("artifact"):
            self.take_stock()
        with self.outcome.step("row"):
            self.job.look()
        if self.config.token is None:
            self.skip_upload(dry_run=dry_run)
            return
        if dry_run:
            self.look()
            self.plan(self.repo, self.state)
            return
        with self.outcome.step("row"):
            self.job.start()
        with self.job.working():
            self.look()
            refusal = self.gate()
            if refusal is None:
                self.publish()
        if refusal is not None:
            self.finish_unpublished("not-published", note=refusal)
            return
        with self.outcome.step("record"):
            self.record(model_url=self.repo.url, note=None)
        with self.outcome.step("tell"):
            self.tell()

    def publish(self) -> None:
        """Steps 5 to 8: afterwards the model is on the Hub, proven."""
        from agent.hub.commit import ContentGoneError

        if self.commit_oid is None:
            with self.outcome.step("repo"):
                self.ensure_repo()
            self.send_content()
        if self.commit_oid is None:
            try:
                self.commit()
            except ContentGoneError as error:
                get_logger().warning("the Hub lost what was sent; sending again", because=error.message)
                self.forget()
                self.send_content()
                self.commit()
        with self.outcome.step("verify"):
            self.verify()

    def take_stock(self) -> None:
        """2. Artifact: afterwards we know what would be published; nothing was changed anywhere."""
        self.stock = artifact.take_stock(self.config.output_dir)
        self.training = artifact.read_training(
            self.stock.root, self.config.training_method, beside=self.config.output_dir
        )
        with self.stock.reading():
            self.draft = publication.draft(self.stock)
        self.outcome.files, self.outcome.size_bytes = len(self.stock.files), self.stock.size_bytes
        get_logger().info(
            "took stock",
            folder=str(self.stock.root),
            files=len(self.stock.files),
            mb=round(self.stock.size_bytes / MEGA, 1),
            kind=self.stock.kind,
            method=self.training.method or "unknown",
        )

    def look(self) -> None:
        """3. Already there? Afterwards repo and branch are known, and our commit if the branch has it."""
        from agent.hub.client import HubClient
        from agent.hub.naming import repo_id_for
        from agent.hub.repo import Repo

        with self.outcome.step("look"):
            client = HubClient(endpoint=self.config.endpoint, token=self.config.token, patience=self.patience)
            self.repo = Repo(client, repo_id_for(self.config, client), self.config.revision)
            self.outcome.repo_id = self.repo.repo_id
            self.state = self.repo.look()
            self.repo.check_visibility(self.state, private=self.config.private)
            newest = max(file.stamp.mtime_ns for file in self.stock.files)
            if self.config.publish_if.compares:
                newest = (
                    0  # a commit of this job is looked at whatever its age: no model competes with itself
                )
            if publication.may_be_published(self.state, self.config.job_id, newest):
                self.sha256s = self._digest()
                self._identify(self.sha256s)
            if self.commit_oid:
                get_logger().info("already published", commit=self.commit_oid)

    def gate(self) -> str | None:
        """4. Gate: why this model is not to be published; None if it is, or was already.

        Raises:
            ConfigError: a condition names a metric nobody logged.
        """
        refusal = self._gate_refusal()
        if refusal:
            get_logger().warning("not published", because=refusal, folder=str(self.stock.root))
            self.journal.note("gate_refused", because=refusal)
        return refusal

    def _gate_refusal(self) -> str | None:
        if self.commit_oid:
            return None
        conditions, earlier = self.config.publish_if, None
        if conditions.compares:
            earlier = publication.metrics_before(self.repo, self.state, self.identity)
        try:
            return conditions.refusal(self.training.metrics, earlier, self.config.git_ref)
        except UnknownMetricError as error:
            raise ConfigError(f"AGENT_PUBLISH_IF: {error}.", hint="Name a metric that was logged.") from error

    def ensure_repo(self) -> None:
        """5. Repo: it exists, as visible as asked. If we die here, an empty repo is found again."""
        self.state = self.repo.ensure(self.state, private=self.config.private)
        self.head = self.state.commits[0]
        self.tree = self.repo.tree(self.head.oid)

    def send_content(self) -> None:
        """6. Content: all bytes are in the Hub's storage. If we die here, it keeps them; nobody sees them.

        Raises:
            ArtifactError: a file changed while it was read.
        """
        from agent.hub import content

        with self.outcome.step("content"), self.stock.reading():
            delivery = content.deliver(
                self.repo, self.draft.pieces(), self.draft.later, self.sha256s, self.forget
            )
        self.outcome.uploaded_bytes += delivery.sent_bytes
        self.sent = list(delivery.stored)
        self.draft.remember(self.sent, self.memory)
        self._identify({one.path: one.sha256 for one in self.sent} | self.draft.raw_sha256s)
        self.journal.note("content_uploaded", bytes=delivery.sent_bytes)

    def commit(self) -> None:
        """7. Commit: one, replacing the model. If we die here, readers see the old tree or the new one."""
        from agent.hub.commit import replace_model

        assert self.identity
        self.job.check()
        with self.outcome.step("commit"):
            self.made = publication.make(
                self.draft,
                config=self.config,
                training=self.training,
                repo=self.repo,
                identity=self.identity,
                sent=self.sent,
                head=self.head,
                tree=self.tree,
            )
            self.commit_oid = replace_model(
                self.repo,
                head=self.head,
                tree=self.tree,
                stored=[*self.sent, *self.made],
                message=publication.message(self.config, self.training, self.identity),
                is_model_file=artifact.is_model_family,
            )
        self.journal.note("committed", commit=self.commit_oid, repo_id=self.repo.repo_id)

    def verify(self) -> None:
        """8. Verify: only what passes here may be called published.

        Raises:
            VerifyMismatchError: the Hub does not hold what was on disk.
        """
        from agent.hub import verify

        assert self.identity
        assert self.commit_oid
        self.outcome.commit, self.outcome.job_id = self.commit_oid, str(self.identity.job_id)
        tree = self.repo.tree(self.commit_oid)
        if not self.made:
            self.made = verify.read_made(
                self.repo, self.commit_oid, self.draft.later, self.identity.finalize_id
            )
        with self.stock.reading():
            in_git = {path for path, entry in tree.items() if entry.sha256 is None}
            sent = self.sent or self.draft.as_on_disk(self.sha256s, in_git)
        verify.prove(
            self.repo,
            self.commit_oid,
            tree,
            [*sent, *self.made],
            is_model_file=artifact.is_model_family,
            xet_hash_of=lambda path: self.draft.xet_hash(path, self.memory),
        )
        self.patience.progress()
        self.memory.save()
        self.outcome.published, self.outcome.model_url = True, self.repo.url
        self.proven = sorted(one.path for one in [*sent, *self.made])
        self.outcome.files = len(self.proven)
        self.outcome.size_bytes = sum(one.size_bytes for one in [*sent, *self.made])
        self.journal.note("verified", commit=self.commit_oid, files=self.outcome.files)
        get_logger().info("proven", commit=self.commit_oid, files=self.outcome.files)

    def record(self, *, model_url: str | None, note: str | None) -> None:
        """9. Record: the row says completed, with the proof in hand and never over a cancelled job.

        Raises:
            JobRefusedError: the row cannot say so; `published` in the outcome tells about the model.
            JobUnreachableError: its database does not answer; the model is published.
        """
        job_id = self.identity.job_id if self.identity else self.config.job_id
        assert job_id
        try:
            self.job.complete(job_id, model_url=model_url, note=note)
        except JobRefusedError as error:
            if self.commit_oid is None:
                raise
            where = publication.where_it_is(self.repo.url, self.commit_oid, self.proven)
            raise JobRefusedError(f"{error.message} {where}", hint=error.hint) from error

    def tell(self) -> None:
        """10. Tell: the tag that the card links to, and the last line of the log."""
        assert self.identity
        assert self.commit_oid
        earlier = any(one.trailer("Job-Id") == str(self.identity.job_id) for one in self.state.commits)
        try:
            self.repo.tag(self.identity.tag, self.commit_oid, move=earlier and bool(self.sent))
        except AgentError as error:
            # Without its tag the model is no less published: the card's link is stale, that is all.
            get_logger().warning("the tag could not be set", tag=self.identity.tag, because=error.message)
        self.outcome.result = "completed"
        get_logger().info("completed", model_url=self.repo.url, job=str(self.identity.job_id))

    def plan(self, repo: Repo | None, state: RepoState | None) -> None:
        """Say what a finalize would do now; nothing was changed anywhere."""
        self.outcome.result = "skipped"
        self.outcome.note = self._gate_refusal() if repo else None
        self.outcome.plan = plan(self.draft, repo, state, already_published=self.commit_oid is not None)

    def skip_upload(self, *, dry_run: bool) -> None:
        """Without a token there is nothing to publish with: say so loudly, and complete the job."""
        get_logger().warning(
            "HF_TOKEN is not set: the model is NOT uploaded and exists only here", folder=str(self.stock.root)
        )
        if dry_run:
            self.plan(None, None)
            return
        self.finish_unpublished(
            "skipped", note=f"HF_TOKEN was not set; the model is only in {self.stock.root}"
        )

    def finish_unpublished(self, result: str, *, note: str) -> None:
        """Complete the job without an address, and say why in the row and in the result."""
        if self.config.job_id is None and self.identity is None:
            self.identity = publication.identify(self.config, self.config.repo_name or "", self._digest())
            self.memory.save()
        with self.outcome.step("record"):
            self.record(model_url=None, note=note)
        self.outcome.result, self.outcome.note = result, note

    def settle(self, error: Exception) -> None:
        """Let the row say what went wrong, and where the model is."""
        self.journal.note("failed", code=getattr(error, "code", "bug"), because=str(error))
        if self.outcome.published:
            where = f"The model is published all the same: {self.outcome.model_url}"
        elif self.outcome.files:
            where = f"Training succeeded; the model is in {self.stock.root}: run finalize again."
        else:
            where = f"The output folder is {self.config.output_dir}."
        self.job.settle(error, job_id=self.identity.job_id if self.identity else None, where=where)

    def forget(self) -> None:
        """Drop every hint about what the Hub's storage has: it turned out to be wrong."""
        from agent.hub.environment import fresh_cache

        fresh_cache(os.environ, self.config.state_dir)
        self.memory.forget()
        self.sha256s = {}

    def _digest(self) -> dict[str, str]:
        """Hash every file; on a slow volume this takes longer than a silent server may."""
        with self.stock.reading():
            sha256s = artifact.digest(self.stock.files, self.memory)
        self.patience.progress()
        return sha256s

    def _identify(self, sha256s: dict[str, str]) -> None:
        self.identity = publication.identify(self.config, self.repo.repo_id, sha256s)
        found = publication.find(self.state, self.config.job_id, self.identity.finalize_id)
        self.commit_oid = found.oid if found else None
