"""The Hub's part of the story: look, send, commit, prove. What only a reader can see is never assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent import artifact, identity, presentation, publication
from agent.beside import Beside
from agent.errors import AgentError, ArtifactError, VerifyMismatchError
from agent.illustrations import Illustrations
from agent.log import get_logger
from agent.material import gather
from agent.plan import would_be_missing
from agent.presentation import Page
from agent.sending import Sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.card.easel import Easel
    from agent.config import Config
    from agent.hub.client import HubClient
    from agent.hub.files import Stored
    from agent.hub.repo import Repo, RepoState
    from agent.identity import Identity
    from agent.inspection import Inspection
    from agent.journal import Journal
    from agent.outcome import Outcome
    from agent.publication import Draft
    from agent.retry import Patience


class Publisher:
    """One draft on its way to the Hub; its methods are steps 3 and 5 to 8 of the design, in order.

    Args:
        config: what was asked for.
        outcome: filled in on the way.
        patience: how long to keep trying.
        journal: the account of what happened.
        draft: what is published.
        seen: the look at the folder that it comes from.
        easel: a process that waits to draw the plots, if there is one.
    """

    def __init__(
        self,
        config: Config,
        outcome: Outcome,
        patience: Patience,
        journal: Journal,
        *,
        draft: Draft,
        seen: Inspection,
        easel: Easel | None = None,
    ) -> None:
        self.config, self.outcome, self.patience, self.journal = config, outcome, patience, journal
        self.draft, self.stock, self.seen = draft, draft.stock, seen
        self.illustrations = Illustrations(seen.training, draft.paths, patience.attempt_left_s, easel)
        self.sending = Sending(config, draft, self.illustrations, patience)
        self._client: HubClient | None = None
        self._named: str | None = None
        self.identity: Identity | None = None
        self.commit_oid: str | None = None
        self.sent: list[Stored] = []
        self.drawn: list[Stored] = []
        self.made: list[Stored] = []
        self.page: Page | None = None
        self.proven: list[str] = []

    def reach(self) -> Beside[tuple[Repo, RepoState]]:
        """3. Ask which repo it is, and what the Hub says of it; that changes nothing, and goes on beside."""
        from agent.hub.client import HubClient
        from agent.hub.naming import repo_id_for
        from agent.hub.repo import Repo

        client = HubClient(endpoint=self.config.endpoint, token=self.config.token, patience=self.patience)
        self._client = client

        def look() -> tuple[Repo, RepoState]:
            repo = Repo(client, repo_id_for(self.config, client), self.config.revision)
            self._named = repo.repo_id
            return repo, repo.look()

        return Beside(look)

    def look(self, reached: Beside[tuple[Repo, RepoState]]) -> None:
        """3. Already there? Afterwards repo and branch are known, and our commit if the branch has it."""
        with self.outcome.step("look"):
            try:
                self.repo, self.state = reached.result()
            finally:
                self.outcome.repo_id = self._named
            self.repo.check_visibility(self.state, private=self.config.private)
            newest = max(file.stamp.mtime_ns for file in self.stock.files)
            if self.config.publish_if.compares:
                newest = (
                    0  # whatever its age, a commit of this job is looked at: no model competes with itself
                )
            if identity.may_be_published(self.state, newest):
                self._identify(self.sending.digest())
            if self.commit_oid:
                get_logger().info("already published", commit=self.commit_oid)

    def publish(self, before_commit: Callable[[], None]) -> None:
        """Steps 5 to 8: afterwards the model is on the Hub, proven.

        Args:
            before_commit: raises if the commit must not be made any more.
        """
        from agent.hub.commit import ContentGoneError

        if self.commit_oid is None:
            with self.outcome.step("repo"):
                self.expect()
                self.ensure_repo()
            self.send_content()
        if self.commit_oid is None:
            before_commit()
            try:
                self.commit()
            except ContentGoneError as error:
                get_logger().warning("the Hub lost what was sent; sending again", because=error.message)
                self.sending.forget()
                self.send_content()
                before_commit()
                self.commit()
        with self.outcome.step("verify"):
            self.verify()

    def expect(self) -> None:
        """Before a byte is sent: what AGENT_EXPECT names will be in the repo afterwards.

        Raises:
            ArtifactError: naming what will not.
        """
        missing = would_be_missing(self.config.expect, self.draft.paths, self.repo, self.state.head)
        if missing:
            raise ArtifactError(
                f"{', '.join(missing)} is in AGENT_EXPECT and would not be in {self.repo.repo_id}.",
                hint=f"Let the training save it to {self.stock.root}, or correct AGENT_EXPECT.",
            )

    def ensure_repo(self) -> None:
        """5. Repo: it exists, as visible as asked. If we die here, an empty repo is found again."""
        existed = self.state.exists
        self.state = self.repo.ensure(self.state, private=self.config.private)
        if not existed:
            self.journal.note("repo_created", repo_id=self.repo.repo_id)
        self.head = self.state.commits[0]
        self.tree = self.repo.tree(self.head.oid)

    def send_content(self) -> None:
        """6. Content: all bytes are in the Hub's storage. If we die here, it keeps them; nobody sees them.

        Raises:
            ArtifactError: a file changed while it was read.
        """
        with self.outcome.step("content"), self.stock.reading():
            self.illustrations.begin()
            prepared = Beside(self.prepare)
            delivery = self.sending.deliver(self.repo)
            prepared.result()
        plots = self.illustrations.beginnings
        self.outcome.uploaded_bytes += delivery.sent_bytes
        self.drawn = [one for one in delivery.stored if one.path in plots]
        self.sent = [one for one in delivery.stored if one.path not in plots]
        self._identify({one.path: one.sha256 for one in self.sent} | self.draft.raw_sha256s)
        self.journal.note("content_uploaded", bytes=delivery.sent_bytes, files=len(delivery.stored))

    def prepare(self) -> None:
        """Make the page of the model, all but its ids and plots, so that nothing is left to be asked later.

        Raises:
            OSError: a file cannot be read.
        """
        if self.page:
            return
        material = gather(self.config, self.seen, self.draft)
        answers = presentation.ask(material, self.repo, self.head, self.tree)
        self.page = Page(material, answers, self.repo.repo_id, self.illustrations)

    def commit(self) -> None:
        """7. Commit: one, replacing the model. If we die here, readers see the old tree or the new one."""
        from agent.hub.commit import CardRefusedError

        assert self.page
        with self.outcome.step("commit"):
            try:
                self.commit_oid = self._replace(self.page)
            except CardRefusedError as error:
                get_logger().warning(
                    "the Hub refuses the README's metadata; publishing it without", because=error.message
                )
                self.commit_oid = self._replace(replace(self.page, plain=True))

    def _replace(self, page: Page) -> str:
        from agent.hub.commit import replace_model

        assert self.identity
        self.made = publication.make(page, identity=self.identity, sent=self.sent, drawn=self.drawn)
        return replace_model(
            self.repo,
            head=self.head,
            tree=self.tree,
            stored=[*self.sent, *self.made],
            message=publication.message(self.config, self.seen.training, self.identity),
            is_model_file=artifact.is_model_family,
        )

    def verify(self) -> None:
        """8. Verify: only what passes here may be called published.

        Raises:
            VerifyMismatchError: the Hub does not hold what was on disk.
        """
        from agent.hub import verify

        assert self.identity
        assert self.commit_oid
        self.outcome.published = False  # also if an earlier attempt had proven it
        self.outcome.commit, self.outcome.job_id = self.commit_oid, str(self.identity.job_id)
        facts = {"commit": self.commit_oid, "repo_id": self.repo.repo_id}
        self.journal.note("committed", once=self.commit_oid, **facts)
        tree = self.repo.tree(self.commit_oid)
        missing = sorted(set(self.config.expect) - tree.keys())
        if missing:
            raise VerifyMismatchError(
                f"{', '.join(missing)} is in AGENT_EXPECT and not in {self.repo.url} at {self.commit_oid}.",
                hint="Correct AGENT_EXPECT, or what removed it from the repo, then run again.",
            )
        if not self.made:
            self.made = verify.read_made(
                self.repo,
                self.commit_oid,
                tree,
                self.identity.finalize_id,
                published={file.path for file in self.draft.files},
                expected=self.draft.later,
            )
        with self.stock.reading():
            sent = self.sent or self.draft.as_on_disk(self.sending.sha256s, self.draft.in_git(tree))
        verify.prove(
            self.repo,
            self.commit_oid,
            tree,
            [*sent, *self.made],
            is_model_file=artifact.is_model_family,
            xet_hash_of=self.sending.xet_hash,
        )
        self.patience.progress()
        self.sending.save()
        self.outcome.published, self.outcome.model_url = True, self.repo.url
        self.proven = sorted(one.path for one in [*sent, *self.made])
        self.outcome.files = len(self.proven)
        self.outcome.size_bytes = sum(one.size_bytes for one in [*sent, *self.made])
        self.journal.note("verified", once=self.commit_oid, files=self.outcome.files, **facts)
        get_logger().info("proven", commit=self.commit_oid, files=self.outcome.files)

    def tag(self) -> None:
        """Set the tag that the card links to."""
        assert self.identity
        assert self.commit_oid
        earlier = any(one.trailer("Job-Id") == str(self.identity.job_id) for one in self.state.commits)
        try:
            self.repo.tag(self.identity.tag, self.commit_oid, move=earlier and bool(self.sent))
        except AgentError as error:
            # Without its tag the model is no less published: the card's link is stale, that is all.
            get_logger().warning("the tag could not be set", tag=self.identity.tag, because=error.message)

    def name_locally(self) -> None:
        """Identify content that stays here, for a job that nobody named."""
        self.identity = identity.identify(self.config, self.config.repo_name or "", self.sending.digest())

    def close(self) -> None:
        """End what still works for it."""
        self.illustrations.stop()
        if self._client:
            self._client.abandon()

    def where_it_is(self) -> str:
        """A sentence that says what of this is on the Hub."""
        assert self.commit_oid
        return publication.where_it_is(self.repo.url, self.commit_oid, self.proven)

    def _identify(self, sha256s: dict[str, str]) -> None:
        self.identity = identity.identify(self.config, self.repo.repo_id, sha256s)
        found = identity.find(self.state, self.config.job_id, self.identity.finalize_id)
        self.commit_oid = found.oid if found else None
        undone = identity.rolled_back(self.state, found) if found else None
        if undone:
            self.outcome.warnings.append(undone)
            get_logger().warning("the branch holds another model now", because=undone)
        if self.config.job_id and not found and not self.config.allow_stale:
            identity.refuse_anothers(self.state, self.identity, self.repo.url)
