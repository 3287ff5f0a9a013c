from __future__ import annotations

import signal

import pytest

from agent import errors


@pytest.mark.parametrize(
    ("kind", "code", "exit_code", "retryable"),
    [
        (errors.ConfigError, "config", 10, False),
        (errors.ArtifactError, "artifact", 11, False),
        (errors.HubAuthError, "hub-auth", 12, False),
        (errors.HubRefusedError, "hub-refused", 13, False),
        (errors.VerifyMismatchError, "verify-mismatch", 14, False),
        (errors.JobRefusedError, "job-refused", 15, False),
        (errors.JobUnreachableError, "job-unreachable", 76, True),
        (errors.HubUnreachableError, "hub-unreachable", 75, True),
    ],
)
def test_each_failure_has_the_code_and_exit_code_of_the_contract(kind, code, exit_code, retryable):
    error = kind("What went wrong.", hint="What to do.")
    assert (error.code, error.exit_code, error.retryable) == (code, exit_code, retryable)
    assert (str(error), error.message, error.hint) == ("What went wrong.", "What went wrong.", "What to do.")
    assert isinstance(error, errors.AgentError)


def test_no_two_failures_share_a_code():
    kinds = errors.AgentError.__subclasses__()
    assert len(kinds) == 9
    assert len({kind.code for kind in kinds}) == 9
    assert len({kind.exit_code for kind in kinds}) == 9


def test_a_failure_without_a_hint_cannot_be_made():
    with pytest.raises(TypeError):
        errors.ConfigError("no cure")


def test_usage_and_bug_keep_their_exit_codes():
    assert (errors.EXIT_USAGE, errors.EXIT_BUG) == (2, 70)


@pytest.mark.parametrize(
    ("signum", "exit_code", "text"),
    [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "stopped by SIGINT")],
)
def test_a_signal_exits_as_a_shell_would_report_it(signum, exit_code, text):
    error = errors.Interrupted(signum)
    assert (error.exit_code, str(error), error.code) == (exit_code, text, "interrupted")


def test_a_signal_is_not_swallowed_by_except_exception():
    assert not issubclass(errors.Interrupted, Exception)
