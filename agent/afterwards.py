"""Who else is told when a job is over: the workflow, the fleet's metrics, people. It stays as it ended.

It comes after the answer was given and before the pod is left. What cannot be told is told in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import ci
from agent import config as configuration
from agent.errors import ConfigError, Interrupted
from agent.log import get_logger
from agent.notify_config import NotifySettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.outcome import Outcome

_INTERRUPTED = {130, 143}
_UNNAMED = ("AGENT_STATE_DIR", "OUTPUT_DIR", "RUNPOD_POD_ID", "HF_REPO_NAME", "TRAINING_CONFIG_NAME")
_NAMED = ("JOB_ID", "AGENT_JOB_ID")


def tell_others(
    environ: Mapping[str, str],
    config: Config | None,
    outcome: Outcome,
    exit_code: int,
    *,
    metrics_file: Path | None = None,
) -> bool:
    """Tell everybody who asked for it how this ended; False if a signal meanwhile told us to stop.

    Args:
        environ: our environment.
        config: what was asked for; None if the configuration is wrong.
        outcome: how it ended.
        exit_code: of the command.
        metrics_file: where the fleet's metrics are collected.
    """
    goes_on = True
    if metrics_file and not (config and config.other_rank):  # the main process's file stays as it is
        goes_on = _try("the metrics were not written", lambda: _measure(metrics_file, outcome, exit_code))
    goes_on = _try("the workflow was not told", lambda: ci.tell(environ, outcome, exit_code)) and goes_on
    if goes_on and exit_code not in _INTERRUPTED:  # of the seconds that a signal leaves none are left
        goes_on = _try("nobody was notified", lambda: _notify(environ, config, outcome, exit_code))
    return goes_on


def warn_of_pod(config: Config, outcome: Outcome, sentence: str) -> None:
    """Tell people that the pod is still there, and why."""
    if config.notify_urls:
        from agent import notify

        _try("nobody was notified", lambda: notify.warn_of_pod(config, outcome, sentence))


def _measure(path: Path, outcome: Outcome, exit_code: int) -> None:
    from agent.telemetry import metrics_file

    metrics_file.write(path, outcome, exit_code)


def _notify(environ: Mapping[str, str], config: Config | None, outcome: Outcome, exit_code: int) -> None:
    config = config or _bare(environ)
    if config is None or config.under_run or config.other_rank:
        return  # `run` tells of all that happened below it, the main process of its whole node
    if config.notify_urls or (config.github_token and config.github_repository):
        from agent import notify

        notify.tell(config, outcome, exit_code)


def _bare(environ: Mapping[str, str]) -> Config | None:
    """As much of a configuration as notifications need, when the whole is wrong."""
    known = configuration.variables()
    names = [name for field in NotifySettings.model_fields for name in known[field]]
    for wanted in ([*names, *_UNNAMED, *_NAMED], [*names, *_UNNAMED], names):
        try:
            return configuration.load({name: environ[name] for name in wanted if name in environ})
        except ConfigError:
            continue
    return None


def _try(what_not: str, tell: Callable[[], None]) -> bool:
    """Tell somebody; False if a signal ended that. Whatever else goes wrong, the job ended as it ended."""
    try:
        tell()
    except Interrupted as stop:
        get_logger().warning(what_not, because=str(stop))
        return False
    except Exception as error:  # noqa: BLE001 - told above
        get_logger().warning(what_not, because=f"{type(error).__name__}: {error}")
    return True
