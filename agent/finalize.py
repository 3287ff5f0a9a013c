"""The story: training ended; bring the model to safety, prove it, and tell everybody who waits.

Every step asks the Hub or the row, never a memory of ours. Wherever we die, the same command run
again arrives at the same end: one commit, proven, recorded once.
"""

from __future__ import annotations

from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import artifact, publication
from agent.beside import Beside
from agent.errors import ConfigError, Interrupted, JobRefusedError
from agent.gate import UnknownMetricError
from agent.identity import metrics_before
from agent.inspection import inspect, read_weights, wants_all_weights
from agent.job import Job
from agent.journal import Journal, Lock, folder_of
from agent.log import get_logger
from agent.plan import plan
from agent.presentation import public_name
from agent.publisher import Publisher
from agent.pulse import Pulse
from agent.readiness import Readiness
from agent.telemetry.spans import traced

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent.card.easel import Easel
    from agent.config import Config
    from agent.outcome import Outcome
    from agent.retry import Patience

MEGA = 1_000_000


def finalize(
    config: Config,
    outcome: Outcome,
    patience: Patience,
    *,
    dry_run: bool = False,
    seen: Seen | None = None,
    readiness: Readiness | None = None,
) -> None:
    """Publish the model in the output folder, prove it, and record it.

    Args:
        config: what was asked for (step 1, config, is done by the caller).
        outcome: filled in on the way; true at every moment, also when an error ends this.
        patience: how long to keep trying.
        dry_run: look at everything, change nothing.
        seen: what is known of the training by whoever ran it.
        readiness: what was made ready for this by whoever waited for the training.

    Raises:
        AgentError: with code, exit code and hint; the row says so too, unless a rerun can mend it.
    """
    if config.other_rank:
        outcome.result = "skipped"
        outcome.note = f"{config.other_rank}: only the main process of the main node publishes"
        get_logger().warning("nothing is published here", because=outcome.note)
        return
    folder = folder_of(config)
    with ExitStack() as around:
        if not dry_run:
            around.enter_context(traced(outcome))
            around.enter_context(Lock(folder, patience))
            around.enter_context(Pulse(folder, outcome, patience.retries))
        journal = Journal(folder)  # not before: another finalizer may have been writing it
        ready = readiness or around.enter_context(closing(Readiness()))
        if not (dry_run or journal.tells_of("verified")):
            ready.prepare_to_draw(config)  # loads on one core what the others need not wait for
        story = Finalize(config, outcome, patience, journal, trained=seen or Seen(), easel=ready.easel)
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
                story.job.report()
            raise
        else:
            if not dry_run:
                story.job.report()
        finally:
            outcome.retries.update(patience.retries)
            story.job.close()


@dataclass(frozen=True)
class Seen:
    """What somebody knows of a training who saw it run.

    `begun` is when it began. `failure` is what it died of: what it left may be published, but its job failed.
    """

    begun: datetime | None = None
    failure: str | None = None


class Finalize:
    """One finalize; its methods are the steps of the design, the Hub's part of them is the publisher's."""

    def __init__(
        self,
        config: Config,
        outcome: Outcome,
        patience: Patience,
        journal: Journal,
        *,
        trained: Seen,
        easel: Easel | None,
    ) -> None:
        self.config, self.outcome, self.patience, self.journal = config, outcome, patience, journal
        self.trained, self.easel = trained, easel
        self.job = Job(config, outcome, patience, journal)

    def run(self, *, dry_run: bool) -> None:
        """Tell the whole story once."""
        if not dry_run:
            self.journal.note("started", output_dir=str(self.config.output_dir), **self.config.origin)
            self.job.deliver()
        with self.outcome.step("artifact"), nullcontext() if dry_run else self.job.working():
            self.take_stock(all_weights=dry_run or self.config.token is None)
        with closing(self.publisher):
            self.bring_to_safety(dry_run=dry_run)

    def bring_to_safety(self, *, dry_run: bool) -> None:
        """Steps 3 to 10, for a model that may be published."""
        reached = self.publisher.reach() if self.config.token else None
        with self.outcome.step("row"):
            self.job.look()
        if reached is None:
            self.skip_upload(dry_run=dry_run)
            return
        self.check_age()
        if dry_run:
            self.publisher.look(reached)
            self.plan()
            return
        with self.outcome.step("row"):
            self.job.start(self.stock.weights_ns)
        with self.job.working():
            self.publisher.look(reached)
            refusal = self.gate()
            if refusal is None:
                self.publisher.publish(before_commit=self.before_commit())
        if refusal is not None:
            self.finish_unpublished("not-published", note=refusal)
            return
        with self.outcome.step("record"):
            self.record(model_url=self.publisher.repo.url, note=None)
        with self.outcome.step("tell"):
            self.tell()

    def take_stock(self, *, all_weights: bool) -> None:
        """2. Artifact: afterwards we know what would be published, and that it may be.

        Nothing was changed anywhere.

        Args:
            all_weights: whether every weight is read now, if that was asked for; else while they travel.

        Raises:
            ArtifactError: there is no model, or not one that may be published.
        """
        seen = inspect(self.config, all_weights=all_weights)
        self.patience.progress()  # reading all weights may take longer than a server may be silent
        self.stock, self.training = seen.stock, seen.training
        self.outcome.warnings += seen.tell_remarks()
        refusal = seen.report.refusal(self.stock.root)
        if refusal:
            raise refusal
        with self.stock.reading():
            draft = publication.draft(self.stock)
        self.publisher = Publisher(
            self.config, self.outcome, self.patience, self.journal, draft=draft, seen=seen, easel=self.easel
        )
        self.outcome.files, self.outcome.size_bytes = len(self.stock.files), self.stock.size_bytes
        base = public_name(self.config.base_model)
        self.outcome.training = publication.figures(self.stock.kind, self.config, self.training, base=base)
        get_logger().info(
            "took stock",
            folder=str(self.stock.root),
            files=len(self.stock.files),
            mb=round(self.stock.size_bytes / MEGA, 1),
            kind=self.stock.kind,
            method=self.training.method or "unknown",
        )

    def before_commit(self) -> Callable[[], None]:
        """Begin what has to be known before the commit only; what is returned waits for it and may refuse."""
        reading = None
        if wants_all_weights(self.config) and self.publisher.commit_oid is None:
            reading = Beside(lambda: read_weights(self.stock))

        def check() -> None:
            refusal = reading.result() if reading else None
            self.patience.progress()
            if refusal:
                raise refusal
            self.job.check()

        return check

    def check_age(self) -> None:
        """3. The wrong model: weights from before this training are not its result.

        Raises:
            ArtifactError: they are older than the row says that the training is.
        """
        started = self.trained.begun or self.job.training_started
        if started and not self.config.allow_stale:
            artifact.refuse_older(self.stock, started)

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
        hub = self.publisher
        if hub.commit_oid:
            return None
        conditions, earlier = self.config.publish_if, None
        if conditions.compares:
            earlier = metrics_before(hub.repo, hub.state, hub.identity)
        try:
            return conditions.refusal(self.training.last_values, earlier, self.config.git_ref)
        except UnknownMetricError as error:
            raise ConfigError(f"AGENT_PUBLISH_IF: {error}.", hint="Name a metric that was logged.") from error

    def record(self, *, model_url: str | None, note: str | None) -> None:
        """9. Record: the row says completed, with the proof in hand and never over a cancelled job.

        Raises:
            JobRefusedError: the row cannot say so; `published` in the outcome tells about the model.
            JobUnreachableError: its database does not answer; the model is published.
        """
        hub = self.publisher
        if self.trained.failure:
            where = f" What it left: {hub.where_it_is()}" if hub.commit_oid else ""
            self.job.fail_training(f"{self.trained.failure}{where}")
            return
        job_id = hub.identity.job_id if hub.identity else self.config.job_id
        assert job_id
        try:
            self.job.complete(job_id, model_url=model_url, note=note)
        except JobRefusedError as error:
            if hub.commit_oid is None:
                raise
            raise JobRefusedError(f"{error.message} {hub.where_it_is()}", hint=error.hint) from error

    def tell(self) -> None:
        """10. Tell: the tag that the card links to, and the last line of the log."""
        self.publisher.tag()
        self.outcome.result = "completed"
        get_logger().info("completed", model_url=self.publisher.repo.url, job=self.outcome.job_id)

    def plan(self) -> None:
        """Say what a finalize would do now; nothing was changed anywhere."""
        hub, asked = self.publisher, self.config.token is not None
        self.outcome.result = "skipped"
        self.outcome.note = self._gate_refusal() if asked else None
        self.outcome.plan = plan(
            hub.draft,
            hub.repo if asked else None,
            hub.state if asked else None,
            plots=hub.illustrations.beginnings,
            already_published=hub.commit_oid is not None,
        )

    def skip_upload(self, *, dry_run: bool) -> None:
        """Without a token there is nothing to publish with: say so loudly, and complete the job."""
        get_logger().warning(
            "HF_TOKEN is not set: the model is NOT uploaded and exists only here", folder=str(self.stock.root)
        )
        if dry_run:
            self.plan()
            return
        self.finish_unpublished(
            "skipped", note=f"HF_TOKEN was not set; the model is only in {self.stock.root}"
        )

    def finish_unpublished(self, result: str, *, note: str) -> None:
        """Complete the job without an address, and say why in the row and in the result."""
        if self.config.job_id is None and self.publisher.identity is None:
            self.publisher.name_locally()
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
        if self.trained.failure:
            return  # whoever ran the training tells what the job failed of
        identity = self.publisher.identity if self.outcome.files else None
        self.job.settle(error, job_id=identity.job_id if identity else None, where=where)
