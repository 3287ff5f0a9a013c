"""The training of a run: admitted by the row, watched while it goes on, and known after any restart."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ArtifactError, Interrupted
from agent.inspection import inspect
from agent.jobs import COMPLETED, refusal
from agent.log import get_logger
from agent.pod import marker
from agent.pod.child import Child
from agent.pod.marker import Mark, is_running, process_mark
from agent.pod.reports import Reports
from agent.warm.worker import sending_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config import Config
    from agent.job import Job
    from agent.pod.marker import Marker
    from agent.pod.output import TrainingLog

MOST_SILENT_STARTS = 3  # of a training that vanishes and leaves nothing new, before it counts as failed
_LOOK_EVERY_S = 1.0


def is_wanted(job: Job) -> bool:
    """Ask the row whether to train at all; False means that the job is completed already.

    Raises:
        JobRefusedError: it was cancelled, it failed for good, or its status is none that we may change.
    """
    job.look()
    if job.row is None or job.row.may_move:
        return True
    if job.row.status == COMPLETED:
        return False
    raise refusal(job.row, None)


class Training:
    """One training in this pod.

    Args:
        config: what was asked for.
        command: what trains.
        environ: our environment; it gets it without what AGENT_CHILD_ENV names.
        stdout: where its output goes, as a file descriptor.
        log: where its output is kept.
        marker: what is known of it after a restart.

    Attributes:
        command_mark: tells this command from others, without its words, which may be secret.
    """

    def __init__(
        self,
        config: Config,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        stdout: int,
        log: TrainingLog,
        marker: Marker,
    ) -> None:
        self._config, self._command, self._environ = config, command, environ
        self._stdout, self._log, self._marker = stdout, log, marker
        self.command_mark = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()

    def run(self, job: Job) -> None:
        """Train to the end; afterwards the marker knows how it ended.

        Args:
            job: hears of its progress, and may stop it.

        Raises:
            JobRefusedError: the job was cancelled; the training was stopped.
            Interrupted: we were told to stop, and stopped it; the next run starts it again.
            ConfigError: nothing can be noted on the volume.
        """
        vanished = 0
        if self._marker.mark.phase == marker.TRAINING:
            self._await_orphan(job)
            if self._has_ended_well():
                get_logger().info("the training had ended when the container was started again")
                self._marker.keep(phase=marker.TRAINED, trained=True)
                return
            vanished = 0 if self._has_left_something() else self._marker.mark.vanished + 1
            get_logger().warning("the training vanished with its container", without_trace=vanished)
        if vanished >= MOST_SILENT_STARTS:
            self._marker.keep(phase=marker.TRAINED, trained=True, vanished=vanished)
            return
        now, before = self._marker.now(), self._marker.mark
        begun = before.begun_at if before.phase in {marker.TRAINING, marker.STOPPED} else now
        self._marker.begin(
            Mark(marker.TRAINING, self.command_mark, begun_at=begun, started_at=now, vanished=vanished)
        )
        job.start(int(begun * 1e9))
        code, signalled = self._watch(job)
        if signalled is not None:
            self._marker.keep(phase=marker.STOPPED)
            raise Interrupted(signalled)
        self._marker.keep(phase=marker.TRAINED, trained=True, child_exit=code, ended_at=self._marker.now())

    def _watch(self, job: Job) -> tuple[int, int | None]:
        """Run the child: its exit code, and the signal that we were told to stop it with."""
        with tempfile.TemporaryDirectory(prefix="training-agent-reports-") as folder:
            reports = Reports(Path(folder))
            environ = {
                name: value for name, value in self._environ.items() if name not in self._config.withheld
            }
            child = Child(self._command, environ, reports=Path(folder), log=self._log, stdout=self._stdout)
            get_logger().info("the training begins", command=self._command[0], log=str(self._log.path))
            job.note("training_started")
            look = _looking(job, child, reports)
            ahead = sending_ahead(self._config, self._environ, self._marker.mark.begun_at)
            with job.working(lambda: _columns(reports)), ahead:
                code = child.run(started=self._note_process, look=look)
            look()
            job.hear(_columns(reports))
        get_logger().info("the training ended", exit_code=code)
        job.note("training_ended", exit_code=code)
        return code, child.signalled

    def _note_process(self, pid: int) -> None:
        self._marker.keep(process=process_mark(pid))

    def _await_orphan(self, job: Job) -> None:
        """Wait for a training whose run was killed and which goes on without it: there must not be two."""
        if not is_running(self._marker.mark.process):
            return
        get_logger().warning("the training goes on without the run that started it; waiting for its end")
        try:
            with job.working():
                while is_running(self._marker.mark.process):
                    job.check()
                    time.sleep(_LOOK_EVERY_S)
        except BaseException:
            marker.stop_process(self._marker.mark.process)
            raise

    def _has_ended_well(self) -> bool:
        """Whether the folder shows that this training came to its end, though nobody heard of it."""
        try:
            seen = inspect(self._config, all_weights=False)
        except ArtifactError:
            return False
        is_new = seen.stock.weights_ns / 1e9 > self._marker.mark.begun_at
        return is_new and seen.training.ended == "finished"

    def _has_left_something(self) -> bool:
        """Whether the last start wrote anything: then the next one may go on from there."""
        return _newest_change(self._config.output_dir) > self._marker.mark.started_at


def _columns(reports: Reports) -> dict[str, int | float]:
    progress = reports.latest()
    return progress.as_columns() if progress else {}


def _looking(job: Job, child: Child, reports: Reports) -> Callable[[], None]:
    """What is looked at while the training runs: a cancel, checkpoints, and once whether we are to stop."""
    told, known = False, set[Path]()

    def look() -> None:
        nonlocal told
        job.check()
        for path in reports.checkpoints():
            if path not in known:
                known.add(path)
                get_logger().info("a checkpoint is complete", path=str(path))
                job.note("checkpoint_saved", path=str(path))
        if child.signalled is not None and not told:
            told = True
            job.interrupt(Interrupted(child.signalled), "the next run starts the training again")

    return look


def _newest_change(folder: Path) -> float:
    """When anything below a folder was changed last, in Unix seconds; 0 if there is nothing."""
    newest, waiting = 0.0, [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
        except OSError:
            continue
    return newest


def describe(mark: Mark) -> str | None:
    """What the folder's marker says of a training that failed without anybody hearing why."""
    if mark.vanished < MOST_SILENT_STARTS:
        return None
    return (
        f"The training was started {mark.vanished} times, and each time it vanished with its container "
        "before it left anything new in the output folder."
    )
