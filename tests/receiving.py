"""Fixtures: receivers that run, and a job that has them all. Loaded by the test modules that name it."""

from __future__ import annotations

import logging

import pytest

from tests.notified import GITHUB_TOKEN, REPO, SLACK, Job
from tests.receivers import GitHubApi, Mailbox, Webhooks


@pytest.fixture
def github():
    with GitHubApi() as api:
        api.tokens[GITHUB_TOKEN] = "write"
        api.add_repository(REPO)
        yield api


@pytest.fixture
def hooks(monkeypatch):
    with Webhooks() as server:
        monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{server.endpoint}/services")
        yield server


@pytest.fixture
def mailbox():
    with Mailbox() as box:
        yield box


@pytest.fixture
def _apprise_as_before():
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3", "requests")]
    before = [(one.propagate, one.level) for one in loggers]
    yield
    for one, (propagate, level) in zip(loggers, before, strict=True):
        one.propagate, one.level = propagate, level


@pytest.fixture
def job(tmp_path, _apprise_as_before):
    return lambda **environ: Job(tmp_path / "state", **environ)


@pytest.fixture
def everywhere(job, github, hooks, mailbox):
    """A job of which a chat, a mailbox and an issue hear."""
    return job(
        AGENT_NOTIFY_URLS=f"{hooks.mattermost}, {mailbox.address}, {SLACK}",
        GITHUB_TOKEN=GITHUB_TOKEN, GITHUB_REPOSITORY=REPO, GITHUB_API_URL=github.endpoint,
    )  # fmt: skip
