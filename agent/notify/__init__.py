"""Notifications: people hear how a job ended, once, where they asked to hear it.

1. Compose: what is told, or that nobody is to hear of this.
2. Look: who was told before; for them nothing is loaded and nobody is asked.
3. Deliver: each send is written down first, so that a crash leaves at most one message too many.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.journal import Journal, Lock, folder_of
from agent.log import get_logger
from agent.notify.channel import INSTALL, Channel
from agent.notify.delivery import Budget, Recipient, deliver
from agent.notify.issue import Issue, Place
from agent.notify.ledger import Ledger
from agent.notify.message import COMPLETED, compose, of_pod
from agent.notify.sources import recall
from agent.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config import Config
    from agent.notify.message import Message
    from agent.outcome import Outcome

NOTIFIED = "notified"  # the folder below a job's: a finalize may be at work on the job's own journal
_LOCK_S = 10.0  # for another run that is telling; then both tell, and each counts what it sends


def tell(
    config: Config,
    outcome: Outcome,
    exit_code: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tell everybody in AGENT_NOTIFY_URLS, and the issue of this job on GitHub.

    Args:
        config: who is to be told, and where the job's account is.
        outcome: how the job ended; nothing of it is changed.
        exit_code: of the command.
        clock: seconds that go by.
        sleep: waits.
    """
    folder = folder_of(config)
    message = compose(config, recall(outcome, folder), exit_code, folder)
    if message is None:
        return
    budget = Budget(clock, sleep)
    with _ledger(config, budget) as ledger:
        recipients: list[Recipient] = [*_channels(config, message, ledger)]
        recipients += _issue(config, message, ledger, budget)
        deliver(recipients, budget)
        if message.event.startswith(COMPLETED) and config.job_id is None:
            ledger.begin_anew()  # the next training in this folder is another job


def warn_of_pod(
    config: Config,
    outcome: Outcome,
    sentence: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tell everybody in AGENT_NOTIFY_URLS that the pod is still there; an issue is about the model only.

    Args:
        config: who is to be told, and where the job's account is.
        outcome: how the job ended.
        sentence: why the pod was not ended, and what to do.
        clock: seconds that go by.
        sleep: waits.
    """
    budget = Budget(clock, sleep)
    message = of_pod(config, outcome, sentence, folder_of(config))
    with _ledger(config, budget) as ledger:
        deliver(_channels(config, message, ledger), budget)


@contextmanager
def _ledger(config: Config, budget: Budget) -> Iterator[Ledger]:
    folder = folder_of(config) / NOTIFIED
    with Lock(folder, Patience(_LOCK_S, clock=budget.clock, sleep=budget.sleep)):
        yield Ledger(Journal(folder))


def _channels(config: Config, message: Message, ledger: Ledger) -> list[Channel]:
    """The addresses that were not told yet; apprise is loaded for them, if there are any."""
    several = len(config.notify_urls) > 1
    every = [
        Channel(url.get_secret_value(), number if several else 0, message, ledger)
        for number, url in enumerate(config.notify_urls, 1)
    ]
    waiting = [channel for channel in every if not channel.is_told]
    if waiting:
        try:
            import apprise  # noqa: F401 - asked for once, before each address asks
        except ModuleNotFoundError as error:
            get_logger().warning("nobody in AGENT_NOTIFY_URLS was told", because=str(error), hint=INSTALL)
            return []
    return waiting


def _issue(config: Config, message: Message, ledger: Ledger, budget: Budget) -> list[Issue]:
    if not (config.github_token and config.github_repository):
        return []
    place = Place(config.github_api, config.github_repository, config.github_token.get_secret_value())
    issue = Issue(place, _name_of(config), message, ledger, budget)
    return [] if issue.is_told else [issue]


def _name_of(config: Config) -> str:
    """What the job is called on GitHub; without an id it is known by its folder, its repo and its pod."""
    if config.job_id:
        return str(config.job_id)
    known = (folder_of(config).name, config.repo_name, config.training_config_name, config.pod_id)
    return f"unnamed-{hashlib.sha256(repr(known).encode()).hexdigest()[:12]}"
