"""`preflight`: before the GPU hours, everything that would keep their model from being published.

1. Start: the Hub, the job database, the pod and who is to be notified are asked at the same time, each by a
   thread of its own.
2. Gather: whoever does not answer in time says so in the table, and holds up nobody else.
3. Judge: the first thing that finalize would fail with is what preflight fails with.

Nothing is changed anywhere.
"""

from __future__ import annotations

import platform
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.artifact import is_model_family
from agent.artifact.age import CLOCKS_DIFFER_S
from agent.errors import AgentError, ConfigError, HubUnreachableError, JobUnreachableError
from agent.jobs.survey import RowSurvey, outlook
from agent.retry import Patience
from agent.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config import Config
    from agent.hub.survey import HubSurvey

PATIENCE_S = 10.0  # a healthy server answers in one; who waits here wants to know, not to succeed
_LAST_WORDS_S = 1.0  # for the answer of a thread whose patience just ended
_LIBRARIES = ("huggingface_hub", "hf_xet", "supabase")
_NO_TOKEN = Check.note(
    "token",
    "HF_TOKEN is not set: the upload would be skipped, and the job completed without a model",
    "Set HF_TOKEN to a token that may write to the repo.",
)
_SILENT_POD = Check.note(
    "pod", "a disk or RunPod did not answer in time", "Run preflight again, or take another pod."
)
_SILENT_RECEIVERS = Check.note(
    "notifications", "who is to be notified did not answer in time", "Run preflight again."
)


@dataclass
class Preflight:
    """What was looked at, in the order in which a finalize would meet it."""

    checks: list[Check] = field(default_factory=list)
    error: dict[str, str] | None = None

    def failed(self, _error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note what a finalize would fail with."""
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: whether a finalize would succeed as far as can be told, and every check."""
        checks = [check.as_json() for check in self.checks]
        return {"ready": self.error is None, "checks": checks, "error": self.error}


def _utc() -> datetime:
    return datetime.now(UTC)


def preflight(
    config: Config,
    answer: Preflight,
    *,
    patience_s: float = PATIENCE_S,
    now: Callable[[], datetime] = _utc,
) -> None:
    """Fill in the answer.

    Args:
        config: as finalize will have it.
        answer: what was found, also when an error ends it.
        patience_s: how long each of those asked may take; it may be one second over.
        now: the time in UTC.

    Raises:
        AgentError: what finalize would fail with first: the configuration, the Hub, the row.
    """
    hub = _hub(config, patience_s, now) if config.token else None
    hub_asked = _Asked("hub", hub.ask, _silent_hub(config)) if hub else None
    row = RowSurvey(config, Patience(patience_s, patience_s), now)
    row_asked = _Asked("job row", row.ask, _silent_database(config))
    pod_asked = _Asked("pod", lambda: _pod(config), _SILENT_POD)
    receivers = _receivers(config, patience_s)
    receivers_asked = _Asked("notifications", receivers, _SILENT_RECEIVERS) if receivers else None
    until = time.monotonic() + patience_s + _LAST_WORDS_S

    answer.checks = _configuration(config)
    answer.checks += hub_asked.gather(until) if hub_asked else [_NO_TOKEN]
    answer.checks += row_asked.gather(until)
    if row.row:
        answer.checks.append(outlook(row.row, hub.model_url if hub else None))
    answer.checks += pod_asked.gather(until)
    answer.checks += receivers_asked.gather(until) if receivers_asked else []
    answer.checks += _clock({"the Hub": hub.ahead_s if hub else None, "the job database": row.ahead_s})
    answer.checks.append(_versions())
    errors = [check.error for check in answer.checks if check.error]
    for error in sorted(errors, key=lambda one: not isinstance(one, ConfigError)):
        raise error


class _Asked:
    """Checks on the way, made by a thread of their own; it is left behind if it does not end.

    Args:
        name: of the check that an error becomes.
        ask: makes the checks.
        silence: the check to add if it does not end in time.
    """

    def __init__(self, name: str, ask: Callable[[], Iterator[Check]], silence: Check) -> None:
        self._name, self._ask, self._silence = name, ask, silence
        self._checks: list[Check] = []
        self._bug: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def gather(self, until: float) -> list[Check]:
        """The checks that were made until that moment of the monotonic clock."""
        self._thread.join(max(0.0, until - time.monotonic()))
        found = list(self._checks)
        if self._bug:
            raise self._bug
        if self._thread.is_alive():
            found.append(self._silence)
        return found

    def _run(self) -> None:
        try:
            for check in self._ask():
                self._checks.append(check)  # one by one: what was found stays, whatever comes next
        except AgentError as error:
            self._checks.append(Check.refused(self._name, error))
        except Exception as error:  # noqa: BLE001 - raised again by `gather`: a bug must not pass for a silence
            self._bug = error


def _hub(config: Config, patience_s: float, now: Callable[[], datetime]) -> HubSurvey:
    from agent.hub.survey import HubSurvey

    return HubSurvey(config, Patience(patience_s, patience_s), now, is_model_family)


def _pod(config: Config) -> Iterator[Check]:
    from agent.hub.cache import cache_home
    from agent.pod.survey import folders, release

    yield from folders(config, cache_home())
    yield release(config)


def _receivers(config: Config, patience_s: float) -> Callable[[], Iterator[Check]] | None:
    """Who looks at those who are to be notified; None if nobody is."""
    if not (config.notify_urls or config.github_token):
        return None
    from agent.notify import survey

    patience = Patience(patience_s, patience_s)
    return lambda: survey.ask(config, patience.left_s)


def _configuration(config: Config) -> list[Check]:
    name, cure = "configuration", "Set, correct or unset the variable."
    if config.warnings:
        return [Check.note(name, warning, cure) for warning in config.warnings]
    return [Check.fine(name, "nothing to correct")]


def _silent_hub(config: Config) -> Check:
    hint = "Check the pod's network and HF_ENDPOINT, then run preflight again."
    return Check.refused("hub", HubUnreachableError(f"{config.endpoint} did not answer in time.", hint=hint))


def _silent_database(config: Config) -> Check:
    where = config.supabase_url or config.state_dir
    hint = "Check the pod's network and SUPABASE_URL, then run preflight again."
    return Check.refused("job row", JobUnreachableError(f"{where} did not answer in time.", hint=hint))


def _clock(ahead_s: dict[str, float | None]) -> list[Check]:
    """Compare our clock with those who told theirs; nothing if nobody did."""
    told = {who: seconds for who, seconds in ahead_s.items() if seconds is not None}
    wrong = {who: seconds for who, seconds in told.items() if abs(seconds) > CLOCKS_DIFFER_S}
    if wrong:
        who, seconds = max(wrong.items(), key=lambda one: abs(one[1]))
        return [
            Check.note(
                "clock",
                f"ours is {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} that of {who}: "
                "weights may seem older than their training, or a token not valid yet",
                "A pod cannot set it: take another one, or set AGENT_ALLOW_STALE=true.",
            )
        ]
    return [Check.fine("clock", f"agrees with {' and '.join(told)}")] if told else []


def _versions() -> Check:
    found = [f"agent {__version__}", f"python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return Check.fine("versions", ", ".join(found))
