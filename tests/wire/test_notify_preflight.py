"""What preflight says of those who are to hear of the job, without telling them anything."""

from __future__ import annotations

import sys
import threading

import pytest

from agent.notify import survey
from agent.preflight import Preflight, preflight
from agent.preflight import _receivers as receivers
from agent.sandbox.loopback import Fault
from tests.notified import GITHUB_TOKEN, REPO, SLACK

pytest_plugins = ("tests.receiving",)
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")


def checks(job, **environ):
    return [(check.verdict, check.said) for check in survey.ask(job(**environ).config(), lambda: 10.0)]


@pytest.fixture
def issues(github):
    return {"GITHUB_TOKEN": GITHUB_TOKEN, "GITHUB_REPOSITORY": REPO, "GITHUB_API_URL": github.endpoint}


def test_addresses_that_apprise_takes_are_fine_and_are_sent_nothing(job, hooks, mailbox):
    [(verdict, said)] = checks(job, AGENT_NOTIFY_URLS=f"{SLACK}, {mailbox.address}")
    assert (verdict, said[:30]) == ("ok", "2 addresses that apprise takes")
    [(verdict, said)] = checks(job, AGENT_NOTIFY_URLS=SLACK)
    assert said.startswith("an address that apprise takes;")
    assert (hooks.requests, mailbox.mails) == ([], [])


def test_an_address_that_apprise_does_not_take_is_named_by_its_number(job):
    [(verdict, said)] = checks(job, AGENT_NOTIFY_URLS=f"{SLACK}, slack://hunter-2-hunter, pigeon://loft")
    assert verdict == "warning"
    assert said == "apprise takes no such address: 2 (slack), 3 (pigeon) of AGENT_NOTIFY_URLS"


def test_without_apprise_the_cure_is_the_command_that_gets_it(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    [check] = survey.ask(job(AGENT_NOTIFY_URLS=SLACK).config(), lambda: 10.0)
    assert (check.verdict, check.cure) == ("warning", "Run: pip install 'training-completion-agent[notify]'")


def test_a_token_that_sees_its_repository_is_fine(job, issues, github):
    assert checks(job, **issues)[0][0] == "ok"
    assert [one.method for one in github.requests] == ["GET"]


@pytest.mark.parametrize("what", ["token", "repository", "issues", "archived", "silence"])
def test_a_token_that_would_open_no_issue_is_noted(what, job, issues, github):
    if what == "token":
        issues["GITHUB_TOKEN"] = "ghp_WrongTokenOfNobody0123456789abcdef"
    elif what == "repository":
        issues["GITHUB_REPOSITORY"] = "ada/nothing"
    elif what == "issues":
        github.repositories[REPO].has_issues = False
    elif what == "archived":
        github.repositories[REPO].archived = True
    else:
        github.faults.add(Fault("reset"))
    [(verdict, said)] = checks(job, **issues)
    assert verdict == "warning"
    assert "no issue would be opened" in said
    assert "ghp_" not in said


def test_a_token_without_a_repository_is_noted(job):
    [(verdict, said)] = checks(job, GITHUB_TOKEN=GITHUB_TOKEN)
    assert (verdict, said) == ("warning", "GITHUB_TOKEN without GITHUB_REPOSITORY opens no issue")


def test_preflight_shows_it_where_somebody_is_to_be_told_and_only_there(job, issues, tmp_path):
    for environ, shown in (({}, 0), (issues, 1), (issues | {"AGENT_NOTIFY_URLS": SLACK}, 2)):
        answer = Preflight()
        preflight(job(**environ, OUTPUT_DIR=str(tmp_path)).config(), answer)
        assert [check.name for check in answer.checks].count("notifications") == shown
        assert answer.error is None


def test_where_nobody_is_to_be_told_nobody_looks(job):
    assert receivers(job().config(), 1.0) is None


def test_github_that_never_answers_holds_up_nobody_else(job, issues, github, tmp_path):
    fault = github.faults.add(Fault("hang"))
    answer = Preflight()
    before = threading.active_count()
    preflight(job(**issues, OUTPUT_DIR=str(tmp_path)).config(), answer, patience_s=0.5)
    [check] = [check for check in answer.checks if check.name == "notifications"]
    assert (fault.fired, check.verdict, answer.error) == (1, "warning", None)
    assert threading.active_count() <= before + 1
