"""A command as the last thing that happens in a pod: its answer comes first, then the end of the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import config as configuration
from agent.errors import ConfigError, Interrupted, TrainingFailedError
from agent.finalize import folder_of
from agent.job import alone
from agent.log import get_logger
from agent.parting import End, Parting, is_first_process, sleep
from agent.run import Run, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.config import Config
    from agent.outcome import Outcome

_INTERRUPTED = {130, 143}
_ON_PURPOSE = {"skipped", "not-published"}
_OF_THE_POD = (
    "RUNPOD_POD_ID", "RUNPOD_VOLUME_ID", "RUNPOD_API_KEY", "RUNPOD_TERMINATE_API_KEY", "AGENT_ON_FINISH",
    "AGENT_STOP_AFTER_S", "AGENT_STATE_DIR", "OUTPUT_DIR",
)  # fmt: skip


class Entrypoint:
    """`run` in a pod: the story, and what happens to the pod after it.

    Args:
        command: the training.
        environ: our environment.
        stdout: where the training's output goes, as a file descriptor.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], stdout: int) -> None:
        self._command, self._environ, self._stdout = command, environ, stdout
        self._run: Run | None = None
        self.outcome = RunOutcome()

    def tell(self, config: Config, outcome: RunOutcome) -> None:
        """Tell the story of the run."""
        self._run = Run(config, outcome, self._command, environ=self._environ, stdout=self._stdout)
        self._run.tell()

    def leave(self, exit_code: int) -> None:
        """End the pod as it was asked for; as its first process, do not return before it ends."""
        if exit_code in _INTERRUPTED:
            return  # whoever told us to stop ends the pod, or wants it for something else
        try:
            config = self._run.config if self._run else _bare(self._environ)
            self._part(config, exit_code)
            if is_first_process(config.pod_id):
                sleep()
        except Interrupted:
            return
        except ConfigError:
            get_logger().error("the pod is kept: nothing is known of how it is to end")
            if is_first_process(self._environ.get("RUNPOD_POD_ID")):
                sleep()

    def _part(self, config: Config, exit_code: int) -> None:
        run = self._run
        mark = run.marker.mark if run else None
        end = End(
            exit_code,
            proven=self.outcome.published,
            nothing_to_publish=exit_code == 0
            and self.outcome.result in _ON_PURPOSE
            and not (run and run.elsewhere),
            no_model=exit_code == TrainingFailedError.exit_code or mark is None or not mark.trained,
        )
        asked = config.on_finish or ("stop" if config.pod_id else "keep")
        _parting(config, self.outcome).leave(asked, end, run.marker if run else None)


def leave_after_finalize(config: Config, outcome: Outcome, exit_code: int) -> None:
    """End the pod if AGENT_ON_FINISH says so; not below a run, which does that itself."""
    if config.on_finish in {None, "keep"} or config.under_run or exit_code in _INTERRUPTED:
        return
    end = End(
        exit_code,
        proven=outcome.published,
        nothing_to_publish=exit_code == 0 and outcome.result in _ON_PURPOSE and not config.other_rank,
    )
    try:
        _parting(config, outcome).leave(config.on_finish, end)
    except Interrupted:
        return


def _parting(config: Config, outcome: Outcome) -> Parting:
    def note(asked: str) -> None:
        with alone(config, outcome, folder_of(config)) as job:
            job.note("released", asked=asked, pod=config.pod_id)

    def tell(sentence: str) -> None:
        with alone(config, outcome, folder_of(config)) as job:
            job.note("released", because=sentence, pod=config.pod_id)

    return Parting(config, tell=tell, note=note)


def _bare(environ: Mapping[str, str]) -> Config:
    """As much of a configuration as the end of a pod needs, when the whole is wrong.

    Raises:
        ConfigError: this part is wrong, too.
    """
    return configuration.load({name: environ[name] for name in _OF_THE_POD if name in environ})
