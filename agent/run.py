"""`run`: train as a child, finalize what it made, and know after any restart how far that was.

1. Admit: a job that was cancelled or is done is not trained again.
2. Train: the row hears of its progress, it hears of a cancel. If the container dies here, the next run starts
   it again, unless it had ended: a training that resumes from its checkpoints loses little.
3. Failed: the row says why. Nothing is published, unless its last checkpoint was asked for.
4. Finalize, for as long as Hub or database do not answer. If we die here, the next run continues.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent import config as configuration
from agent import train
from agent.errors import (
    EXIT_BUG,
    AgentError,
    ArtifactError,
    ConfigError,
    HubUnreachableError,
    Interrupted,
    JobUnreachableError,
    TrainingFailedError,
)
from agent.finalize import Seen, finalize
from agent.job import Job, alone
from agent.journal import TRAINING, Journal, folder_of
from agent.log import get_logger
from agent.outcome import Outcome
from agent.pod import autopsy, marker
from agent.pod.marker import container_life
from agent.pod.output import TrainingLog
from agent.ranks import other_rank
from agent.readiness import Readiness
from agent.retry import Patience
from agent.warm.worker import made_repo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.config import Config
    from agent.pod.marker import Mark

FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 1800.0
_OVER = {0, TrainingFailedError.exit_code}  # after these a later run in this pod does nothing
_TRAIN_AGAIN = _OVER | {
    ArtifactError.exit_code
}  # after these somebody who runs it once more wants a training
_DONE_BEFORE = "this pod did all of it already; nothing was done again"
_NOT_TRAINED = "the job was completed already; nothing was trained"


@dataclass
class RunOutcome(Outcome):
    """The account of a run: that of its finalize, and the training's exit code as a shell reports it."""

    child_exit: int | None = None

    def as_json(self) -> dict[str, object]:
        """The JSON object of the contract."""
        return {**super().as_json(), "child_exit": self.child_exit}


class Run:
    """One job in one pod.

    Args:
        config: what was asked for.
        outcome: filled in on the way; true at every moment.
        command: the training.
        environ: our environment.
        stdout: where the training's output goes, as a file descriptor.
    """

    def __init__(
        self,
        config: Config,
        outcome: RunOutcome,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        stdout: int,
    ) -> None:
        pod = re.sub(r"[^A-Za-z0-9_-]", "_", config.pod_id or "here")
        self.elsewhere = other_rank(environ, command)
        self.folder = folder_of(config) / (f"node-{pod}" if self.elsewhere else "")
        if self.elsewhere:
            # The row is the main node's, and so is all that is told.
            config = config.model_copy(update={"job_id": None, "other_rank": self.elsewhere})
        self.config, self.outcome, self.environ = config, outcome, environ
        self.marker = marker.Marker(config.state_dir / "pods" / pod / f"{folder_of(config).name}.json")
        self.readiness = Readiness()
        self.log = TrainingLog(self.folder / "training.log")
        self.training = train.Training(
            config,
            command,
            environ=environ,
            stdout=stdout,
            log=self.log,
            marker=self.marker,
        )

    def tell(self) -> None:
        """Do what is left to do for this job in this pod.

        Raises:
            AgentError: with code, exit code and hint; the row says so too, as far as it can be told.
        """
        with self.marker.held():
            if self.is_over():
                return
            try:
                if self.marker.mark.trained or self.train():
                    self.publish()
            except Interrupted:
                raise
            except Exception as error:
                self.finish(error.exit_code if isinstance(error, AgentError) else EXIT_BUG)
                raise
            finally:
                self.readiness.close()
            self.finish(0)

    def is_over(self) -> bool:
        """Whether an earlier container of this pod did everything.

        Raises:
            TrainingFailedError: it did, and the training failed.
        """
        mark = self.marker.mark
        is_over = mark.phase in marker.OVER and mark.exit_code in _OVER
        self.outcome.published = is_over and mark.proven
        if self._is_new_training(mark):
            self.marker.forget()
            return False
        again = f"To train again, set another JOB_ID or remove {self.marker.path}."
        if not is_over:
            if mark.trained:
                get_logger().info("the training ended before; going on with what it left", hint=again)
            return False
        self.outcome.child_exit = mark.child_exit
        if mark.exit_code:
            raise TrainingFailedError(
                "The training of this job failed in this pod already; nothing was done again.", hint=again
            )
        self.outcome.result, self.outcome.note = mark.result, _DONE_BEFORE
        get_logger().info(_DONE_BEFORE, result=mark.result, hint=again)
        return True

    def _is_new_training(self, mark: Mark) -> bool:
        """Whether somebody asked for it, where nothing starts a run again by itself.

        That is outside of a pod, and in the container in which the last one ended: then another command, or
        the same one when nothing is left to be done with what it made, trains anew.
        """
        if self.config.pod_id is not None and mark.life != container_life():
            return False
        nothing_left = mark.phase in marker.OVER and mark.exit_code in _TRAIN_AGAIN
        return nothing_left or mark.command != self.training.command_mark

    def train(self) -> bool:
        """1 and 2. Admit and train; False means that there is nothing to do: the job is completed."""
        with self.watching() as job:
            if not train.is_wanted(job):
                self.outcome.result, self.outcome.note = "completed", _NOT_TRAINED
                get_logger().info(_NOT_TRAINED, job=self.outcome.job_id)
                return False
            self.outcome.published = False
            self.readiness.prepare(self.config)
            self.training.run(job)
        return True

    def publish(self) -> None:
        """3 and 4. Afterwards the job failed for a reason that its row tells, or its model is safe."""
        mark = self.marker.mark
        self.outcome.child_exit = mark.child_exit
        if repo_id := made_repo(self.config):
            Journal(self.folder).note("repo_created", once=repo_id, repo_id=repo_id)
        if not self.elsewhere:
            self.reread()
        begun = datetime.fromtimestamp(mark.begun_at, UTC)
        if mark.child_exit or train.describe(mark):
            self.fail(begun)
        if self.elsewhere:
            self.outcome.result = "skipped"
            self.outcome.note = f"{self.elsewhere}: only the main process of the main node publishes"
            get_logger().info("the training ended; nothing is published here", because=self.outcome.note)
            return
        self.finalize(Seen(begun))

    def reread(self) -> None:
        """Know what the training wrote of itself: its configuration, and by it the output folder."""
        try:
            self.config = configuration.load(self.environ)
        except ConfigError as error:
            get_logger().warning("going on with the configuration of before", because=error.message)

    def fail(self, begun: datetime) -> None:
        """3. The row says what the training died of; what it left is published only if that was asked for.

        Raises:
            TrainingFailedError: always.
        """
        mark, lines = self.marker.mark, self.log.last_lines
        code = mark.child_exit or 0
        found = autopsy.autopsy(code, lines, self.log.path)
        what = train.describe(mark) or autopsy.sentence(found, code, mark.ended_at - mark.started_at)
        error = TrainingFailedError(what, hint=found.hint)
        told = autopsy.message(f"{error.code}: {what} {found.hint}", lines)
        if self.config.publish_on_failure == "checkpoint" and not self.elsewhere:
            config = self.config.model_copy(update={"allow_partial": True})
            try:
                finalize(
                    config,
                    self.outcome,
                    self.patience(),
                    seen=Seen(begun, failure=told),
                    readiness=self.readiness,
                )
            except AgentError as second:
                get_logger().error("what the training left was not published", because=second.message)
        with alone(self.config, self.outcome, self.folder) as job:
            job.fail_training(told)
        raise error

    def finalize(self, seen: Seen) -> None:
        """4. Finalize; what a rerun mends is tried again with growing pauses, until AGENT_GIVE_UP_S.

        Raises:
            AgentError: as finalize does; HubUnreachableError and JobUnreachableError only when we gave up.
        """
        over, pause_s = time.monotonic() + self.config.give_up_s, FIRST_PAUSE_S
        while True:
            self.outcome.warnings.clear()
            try:
                return finalize(
                    self.config, self.outcome, self.patience(), seen=seen, readiness=self.readiness
                )
            except (HubUnreachableError, JobUnreachableError) as error:
                if time.monotonic() + pause_s > over:
                    self.give_up(error)
                    raise
                get_logger().warning("trying again later", because=error.message, wait_s=pause_s)
            self.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def wait(self, seconds: float) -> None:
        """Let the row hear from us while we wait, and hear of a cancel."""
        with self.watching() as job:
            job.look()
            try:
                with job.working():
                    time.sleep(seconds)
            except Interrupted as stop:
                job.interrupt(stop)
                raise

    def give_up(self, error: AgentError) -> None:
        """Nobody is left who tries: the row says where the model is, if it can be told."""
        if self.outcome.published:
            return  # the row's last word waits in the journal
        message = f"{error.code}: {error.message} No more attempts after {self.config.give_up_s:g} s. "
        with alone(self.config, self.outcome, self.folder) as job:
            job.give_up(
                f"{message}Training succeeded; the model is in {self.config.output_dir}: run finalize again."
            )

    def finish(self, exit_code: int) -> None:
        """Note the end, and how safe the model is."""
        self.marker.keep(
            phase=marker.FINISHED,
            finished_at=self.marker.now(),
            exit_code=exit_code,
            result=self.outcome.result,
            proven=self.outcome.published,
            life=container_life(),
        )

    def patience(self) -> Patience:
        """A new one: what was silent before does not count."""
        return Patience(self.config.stall_s, self.config.deadline_s)

    @contextmanager
    def watching(self) -> Iterator[Job]:
        """The row while we train or wait, with a journal of its own: a finalize may be at work beside us."""
        patience = self.patience()
        job = Job(self.config, self.outcome, patience, Journal(self.folder / TRAINING))
        try:
            yield job
        finally:
            self.outcome.retries.update(patience.retries)
            job.close()
