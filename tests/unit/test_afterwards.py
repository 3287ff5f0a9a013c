"""Who else is told: nothing that goes wrong there changes how a job ended, and a signal is still heard."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from agent import afterwards, notify
from agent.config import load
from agent.errors import Interrupted
from agent.outcome import Outcome

CHANNEL = {"AGENT_NOTIFY_URLS": "json://127.0.0.1:9/hook"}


@pytest.fixture
def told(monkeypatch):
    """The configurations with which people were told."""
    found = []
    monkeypatch.setattr(notify, "tell", lambda config, *_: found.append(config))
    return found


def tell(environ, *, config=True, exit_code=0, **more):
    return afterwards.tell_others(environ, load(environ) if config else None, Outcome(), exit_code, **more)


def test_a_job_is_told_of_where_somebody_asked_for_it(told, tmp_path):
    assert tell({"AGENT_STATE_DIR": str(tmp_path)})
    assert not told
    assert tell({"AGENT_STATE_DIR": str(tmp_path), **CHANNEL})
    assert tell({"AGENT_STATE_DIR": str(tmp_path), "GITHUB_TOKEN": "ghs_1", "GITHUB_REPOSITORY": "ada/x"})
    assert len(told) == 2


@pytest.mark.parametrize("more", [{"TRAINING_AGENT_REPORTS": "/r"}, {"RANK": "1"}])
def test_below_a_run_and_on_other_ranks_nobody_is_told(more, told):
    assert tell(CHANNEL | more)
    assert not told


@pytest.mark.parametrize("exit_code", [130, 143])
def test_after_a_signal_there_is_no_time_for_messages(exit_code, told):
    assert tell(CHANNEL, exit_code=exit_code)
    assert not told


@pytest.mark.parametrize(
    ("wrong", "job"),
    [
        ({"HF_REVISION": "a b"}, "6f1c2a54-9d0e-4a57-8c11-0123456789ab"),
        ({"JOB_ID": "seven"}, None),
        ({"OUTPUT_DIR": "x\0y"}, "6f1c2a54-9d0e-4a57-8c11-0123456789ab"),
    ],
)
def test_a_wrong_configuration_is_told_of_with_as_much_as_is_right(wrong, job, told):
    known = {"JOB_ID": "6f1c2a54-9d0e-4a57-8c11-0123456789ab", "RUNPOD_POD_ID": "k3x9w2"}
    environ = {**known, **CHANNEL, **wrong}
    assert tell(environ, config=False, exit_code=10)
    [config] = told
    assert config.notify_urls[0].get_secret_value() == CHANNEL["AGENT_NOTIFY_URLS"]
    assert (str(config.job_id) if config.job_id else None) == job
    assert config.pod_id == "k3x9w2"  # by which a message leads to the pod


def test_what_cannot_be_told_is_told_in_the_log_and_changes_nothing(monkeypatch, tmp_path):
    def broken(*_):
        raise ZeroDivisionError("words")

    monkeypatch.setattr(notify, "tell", broken)
    with capture_logs() as said:
        assert tell(CHANNEL, metrics_file=tmp_path)
    assert [line["event"] for line in said] == ["the metrics were not written", "nobody was notified"]
    assert said[1]["because"] == "ZeroDivisionError: words"


def test_a_signal_ends_the_telling_and_is_passed_on(monkeypatch):
    def stopped(*_):
        raise Interrupted(15)

    monkeypatch.setattr(notify, "tell", stopped)
    with capture_logs() as said:
        assert not tell(CHANNEL)
    assert said[0]["because"] == "stopped by SIGTERM"


def test_people_hear_of_a_pod_only_where_an_address_is(monkeypatch):
    found = []
    monkeypatch.setattr(notify, "warn_of_pod", lambda *told: found.append(told[2]))
    afterwards.warn_of_pod(load({"GITHUB_TOKEN": "ghs_1", "GITHUB_REPOSITORY": "ada/x"}), Outcome(), "s")
    assert not found
    afterwards.warn_of_pod(load(CHANNEL), Outcome(), "s")
    assert found == ["s"]
