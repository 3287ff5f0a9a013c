"""A command as the last thing that happens in a pod: its answer comes first, then the end of the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent import config as configuration
from agent import ending
from agent.afterwards import tell_others, warn_of_pod
from agent.errors import TrainingFailedError
from agent.job import alone
from agent.jobs import clean_message
from agent.journal import folder_of
from agent.log import get_logger
from agent.parting import End, Parting, is_first_process, sleep
from agent.pod import alert
from agent.run import Run, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

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

    def tell_others(self, exit_code: int, metrics_file: Path | None) -> bool:
        """Tell everybody who asked for it how this ended; False if a signal meanwhile told us to stop."""
        config = self._run.config if self._run else None
        return tell_others(self._environ, config, self.outcome, exit_code, metrics_file=metrics_file)

    def leave(self, exit_code: int) -> None:
        """End the pod as it was asked for; as its first process, do not return before it ends."""
        pod_id = self._environ.get("RUNPOD_POD_ID")
        if exit_code in _INTERRUPTED or not (self._run or pod_id):
            return  # whoever told us to stop ends the pod, or wants it for something else
        ended = _told(lambda: self._part(exit_code), self._state_dir)
        if ended not in _INTERRUPTED and is_first_process(pod_id):
            _told(sleep, self._state_dir)

    def _state_dir(self) -> Path | None:
        return self._run.config.state_dir if self._run else None

    def _part(self, exit_code: int) -> None:
        run, outcome = self._run, self.outcome
        config = run.config if run else _bare(self._environ)
        end = End(
            exit_code,
            proven=outcome.published,
            nothing_to_publish=_nothing_to_publish(exit_code, outcome) and not (run and run.elsewhere),
            no_model=exit_code == TrainingFailedError.exit_code
            or run is None
            or run.elsewhere is not None  # the main node saves the model
            or not run.marker.mark.trained,
        )
        asked = config.on_finish or ("stop" if config.pod_id else "keep")
        if run is None and asked == "terminate":
            asked = "stop"  # with a wrong configuration nobody knows what is on the volume
        _parting(config, outcome).leave(asked, end, run.marker if run else None)


def leave_after_finalize(config: Config, outcome: Outcome, exit_code: int) -> None:
    """End the pod if AGENT_ON_FINISH says so, tell the platform if it asked; below a run neither."""
    asked = config.on_finish or "keep"
    if config.under_run or exit_code in _INTERRUPTED:
        return
    on_purpose = _nothing_to_publish(exit_code, outcome) and not config.other_rank
    end = End(exit_code, proven=outcome.published, nothing_to_publish=on_purpose)
    _told(lambda: _parting(config, outcome).leave(asked, end), lambda: config.state_dir)


def _nothing_to_publish(exit_code: int, outcome: Outcome) -> bool:
    """Whether that was the user's own wish."""
    return exit_code == 0 and outcome.result in _ON_PURPOSE


def _told(story: Callable[[], object], reports: Callable[[], Path | None]) -> int:
    """Do what ends a pod; an error keeps it, and is never the end of its container."""
    answer = RunOutcome()
    code = ending.told(story, answer, reports)
    if answer.error and code not in _INTERRUPTED:
        get_logger().error("the pod is kept", because=answer.error["message"], hint=answer.error["hint"])
    return code


def _parting(config: Config, outcome: Outcome) -> Parting:
    def note(asked: str) -> None:
        with alone(config, outcome, folder_of(config)) as job:
            job.note("released", asked=asked, pod=config.pod_id)

    def tell(sentence: str) -> None:
        sentence = clean_message(sentence)
        with alone(config, outcome, folder_of(config)) as job:
            job.note("released", because=sentence, pod=config.pod_id)
            job.remark(sentence)
        warn_of_pod(config, outcome, sentence)

    def news() -> dict[str, Any] | None:
        with alone(config, outcome, folder_of(config)) as job:
            row = job.now()
            return alert.message(config, row, repo_id=outcome.repo_id) if row else None

    return Parting(config, tell=tell, note=note, news=news)


def _bare(environ: Mapping[str, str]) -> Config:
    """As much of a configuration as the end of a pod needs, when the whole is wrong.

    Raises:
        ConfigError: this part is wrong, too.
    """
    return configuration.load({name: environ[name] for name in _OF_THE_POD if name in environ})
