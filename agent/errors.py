"""What can go wrong, each with a code, an exit code and a cure.

    AgentError
    ├── ConfigError          10  config             the environment or a flag is wrong
    ├── ArtifactError        11  artifact           the folder holds no publishable model
    ├── HubAuthError         12  hub-auth           the token is missing rights
    ├── HubRefusedError      13  hub-refused        the Hub, or what it holds, forbids this
    ├── VerifyMismatchError  14  verify-mismatch    the Hub does not hold what was on disk
    ├── JobRefusedError      15  job-refused        cancelled, or the row cannot be written
    ├── TrainingFailedError  17  training-failed    the command under `run` did not end well
    ├── HubUnreachableError  75  hub-unreachable    run again, nothing is lost
    └── JobUnreachableError  76  job-unreachable    run again, the model is published
    Interrupted (a BaseException)  143 / 130        a signal asked us to stop

The numbers are an API: they are never reused, and a caller treats an unknown one as a failure.
"""

from __future__ import annotations

import signal
from typing import ClassVar

EXIT_USAGE = 2
EXIT_BUG = 70


class AgentError(Exception):
    """A failure that a person can act on: one sentence, and a hint that says what to do."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = EXIT_BUG
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(AgentError):
    """The environment or a flag does not say what to do."""

    code = "config"
    exit_code = 10


class ArtifactError(AgentError):
    """The output folder holds no model that may be published."""

    code = "artifact"
    exit_code = 11


class HubAuthError(AgentError):
    """The token is unknown to the Hub, or may not write there."""

    code = "hub-auth"
    exit_code = 12


class HubRefusedError(AgentError):
    """The Hub refuses this for good: quota, visibility, invalid content."""

    code = "hub-refused"
    exit_code = 13


class VerifyMismatchError(AgentError):
    """What the Hub holds is not what was read from disk."""

    code = "verify-mismatch"
    exit_code = 14


class JobRefusedError(AgentError):
    """The job row is cancelled or terminal, or cannot be written at all."""

    code = "job-refused"
    exit_code = 15


class TrainingFailedError(AgentError):
    """The training itself failed: there is no model to publish."""

    code = "training-failed"
    exit_code = 17


class HubUnreachableError(AgentError):
    """The Hub did not answer within the patience we have; the next run continues."""

    code = "hub-unreachable"
    exit_code = 75
    retryable = True


class JobUnreachableError(AgentError):
    """The job database did not answer within the patience we have; the next run tells it."""

    code = "job-unreachable"
    exit_code = 76
    retryable = True


class Interrupted(BaseException):
    """A signal asked the process to stop; no `except Exception` may swallow it.

    Its exit code is the one a shell would report.
    """

    code = "interrupted"

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum
