"""The issue of a job on GitHub: one, found again by its marker, whatever was lost, closed or deleted."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from agent.notify import NOTIFIED
from agent.notify.failure import NotToldError
from agent.notify.github import GitHub
from agent.notify.issue import MOST_PAGES
from agent.outcome import Outcome
from agent.sandbox.loopback import Fault
from tests.notified import GITHUB_TOKEN, JOB, REPO, Job

pytest_plugins = ("tests.receiving",)
MARKER = f"<!-- training-completion-agent job={JOB} repo=ada/model -->"
OPENED = f"Training job {JOB}: not published"
CREATE, COMMENT, PATCH = "POST .*/issues$", "POST .*/comments$", "PATCH "


@pytest.fixture
def repo(github):
    return github.repositories[REPO]


@pytest.fixture
def ours(job, github):
    return job(GITHUB_TOKEN=GITHUB_TOKEN, GITHUB_REPOSITORY=REPO, GITHUB_API_URL=github.endpoint)


@pytest.fixture
def elsewhere(ours, tmp_path):
    """The same job on another volume, whose ledger knows nothing."""
    return lambda: Job(tmp_path / f"volume-{len(list(tmp_path.iterdir()))}", **ours.environ)


def said(repo, number=1):
    """What its comments begin with."""
    return [comment["body"].splitlines()[0].strip("*").partition(":")[0] for comment in repo.comments[number]]


def states(repo):
    return [issue["state"] for issue in repo.issues]


def asked(github):
    """What was asked since the last time."""
    requests = [f"{one.method} {one.path.removeprefix(f'/repos/{REPO}')}" for one in github.requests]
    github.requests.clear()
    return requests


def test_an_issue_lives_as_its_job_does(ours, repo, github):
    [line] = ours.fail()
    assert (line["event"], line["who"], line["how"]) == ("notified", "github issue", "opened #1")
    assert asked(github) == ["GET /issues", "POST /issues"]
    ours.fail()
    assert asked(github) == ["GET /issues/1", "GET /issues/1/comments", "POST /issues/1/comments"]
    ours.succeed()
    assert asked(github)[-2:] == ["POST /issues/1/comments", "PATCH /issues/1"]
    assert (states(repo), said(repo)) == (["closed"], ["Not published", "Published"])
    assert "<https://huggingface.co/ada/model>" in repo.comments[1][-1]["body"]
    ours.succeed()
    assert asked(github) == []
    ours.fail()
    assert (states(repo), said(repo)[2:]) == (["open"], ["Not published"])
    assert asked(github)[-2:] == ["POST /issues/1/comments", "PATCH /issues/1"]
    ours.succeed()
    assert (states(repo), said(repo)[3:]) == (["closed"], ["Published"])
    assert repo.issues[0]["title"] == OPENED


def test_a_success_without_an_issue_looks_once_and_opens_none(ours, repo, github):
    ours.succeed()
    ours.succeed()
    assert asked(github) == ["GET /issues"]
    assert repo.issues == []


def test_nothing_to_publish_on_purpose_closes_it_too(ours, repo):
    ours.fail()
    ours.tell(Outcome("not-published", note="improves:loss was false", files=3, job_id=JOB), 0)
    assert (states(repo), said(repo)) == (["closed"], ["Not published, on purpose"])


def test_another_volume_finds_it_by_its_marker(ours, elsewhere, repo):
    ours.fail()
    elsewhere().fail()
    elsewhere().succeed()
    assert (states(repo), said(repo)) == (["closed"], ["Not published", "Published"])
    elsewhere().succeed()
    elsewhere().fail()
    assert (states(repo), len(repo.comments[1])) == (["open"], 3)


def test_what_only_looks_like_it_is_left_alone(ours, repo):
    """A pull request with the marker, another job's issue, and one that quotes the marker within a line."""
    repo.add("a", f"{MARKER}", pull_request=True)
    repo.add("b", MARKER.replace(JOB, JOB.replace("6f1c", "7f1c")))
    repo.add("c", f"what does {MARKER} mean?")
    repo.add("d", None)
    ours.fail()
    assert [issue["title"] for issue in repo.issues[4:]] == [OPENED]
    ours.succeed()
    assert states(repo) == ["open"] * 4 + ["closed"]


def test_it_is_found_among_many(elsewhere, repo, github):
    repo.add("ours", f"text\r\n\r\n{MARKER}\r\n")
    for number in range(250):
        repo.add(f"issue {number}", "text")
    elsewhere().fail()
    assert asked(github)[:3] == ["GET /issues"] * 3
    assert (len(repo.issues), len(repo.comments[1])) == (251, 1)


def test_the_search_ends_somewhere(elsewhere, repo, github):
    for number in range(MOST_PAGES * 100 + 1):
        repo.add(f"issue {number}", "text")
    elsewhere().fail()
    assert asked(github) == ["GET /issues"] * MOST_PAGES + ["POST /issues"]


def test_of_an_issue_with_hundreds_of_comments_only_the_last_page_is_read(ours, repo, github):
    ours.fail()
    for _ in range(250):
        repo.comments[1].append({"id": 1, "body": "me too"})
    repo.issues[0]["comments"] = 250
    asked(github)
    ours.fail()
    assert github.requests[1].query == "per_page=100&page=3"
    assert len(repo.comments[1]) == 251


@pytest.mark.parametrize("status", [301, 404, 410])
def test_an_issue_that_was_deleted_or_transferred_is_opened_again(status, ours, repo):
    ours.fail()
    repo.issues[0]["gone"] = status
    ours.fail()
    assert len(repo.issues) == 2
    ours.succeed()
    assert repo.issues[1]["state"] == "closed"


def test_an_issue_that_a_person_closed_is_opened_again_by_a_failure_and_left_by_a_success(ours, repo):
    ours.fail()
    repo.issues[0]["state"] = "closed"
    ours.succeed()
    assert (states(repo), said(repo)) == (["closed"], [])
    ours.fail()
    assert (states(repo), said(repo)) == (["open"], ["Not published"])


@pytest.mark.parametrize("kind", ["lost", "reset", "truncated"])
def test_an_issue_whose_answer_is_lost_is_opened_once(kind, ours, repo, github):
    fault = github.faults.add(Fault(kind, match=CREATE, times=1))
    [line] = ours.fail()
    assert (fault.fired, line["event"]) == (1, "notified")
    assert (len(repo.issues), repo.comments[1]) == (1, [])


@pytest.mark.parametrize("match", [COMMENT, PATCH, "GET .*/issues/1$", "GET .*/comments$"])
@pytest.mark.parametrize("kind", ["lost", "reset", "truncated"])
def test_a_step_whose_answer_is_lost_is_done_once(kind, match, ours, repo, github):
    ours.fail()
    repo.issues[0]["state"] = "closed"
    fault = github.faults.add(Fault(kind, match=match, times=1))
    ours.fail()
    assert (fault.fired, states(repo), said(repo)) == (1, ["open"], ["Not published"])
    fault.times = 2
    ours.succeed()
    assert (fault.fired, states(repo), said(repo)) == (2, ["closed"], ["Not published", "Published"])
    assert len(repo.issues) == 1


def test_a_success_that_died_before_it_closed_the_issue_comments_no_second_time(
    ours, elsewhere, repo, github
):
    ours.fail()
    fault = github.faults.add(Fault("status", match=PATCH, status=403))
    ours.succeed()
    assert (fault.fired, states(repo), said(repo)) == (1, ["open"], ["Published"])
    github.faults.clear()
    elsewhere().succeed()
    assert (states(repo), said(repo)) == (["closed"], ["Published"])


REFUSALS = {
    "a wrong token": (401, "Bad credentials", "GitHub does not know GITHUB_TOKEN"),
    "a token that may only read": (403, "Resource not accessible", "issues: write"),
    "another repository": (404, "Not Found", "correct GITHUB_REPOSITORY"),
    "no issues": (410, "Issues has been disabled", "issues are turned off"),
    "a repository that moved": (301, "Moved Permanently", "correct GITHUB_REPOSITORY"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_is_told_in_githubs_words_with_its_cure_and_not_tried_again(what, ours, repo, github):
    more = {}
    if what == "a wrong token":
        more = {"GITHUB_TOKEN": "ghp_WrongTokenOfNobody0123456789abcdef"}
    elif what == "a token that may only read":
        github.tokens[GITHUB_TOKEN] = "read"
    elif what == "another repository":
        more = {"GITHUB_REPOSITORY": "ada/nothing"}
    elif what == "no issues":
        repo.has_issues = False
    else:
        github.moved["ada/old"] = REPO
        more = {"GITHUB_REPOSITORY": "ada/old"}
    [line] = ours.fail(**more)
    status, words, cure = REFUSALS[what]
    assert (line["event"], line["log_level"]) == ("not notified", "warning")
    assert line["because"].startswith(f"GitHub answered {status} {words}")
    assert cure in line["because"]
    assert (ours.clock.slept, repo.issues) == ([], [])
    assert len(asked(github)) == (2 if what == "a token that may only read" else 1)


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (Fault("status", status=503, times=2), [1.0, 2.0]),
        (Fault("status", status=429, retry_after=7, times=1), [7.0]),
        (Fault("status", status=403, retry_after=3, times=1), [3.0]),
        (Fault("status", status=403, headers={"X-RateLimit-Remaining": "0"}, times=1), [1.0]),
        (Fault("status", status=200, body="<html>proxy</html>", times=1), [1.0]),
        (Fault("status", status=200, body='{"message": "no list"}', match="GET .*/issues$", times=1), [1.0]),
    ],
)
def test_what_may_pass_is_tried_again_as_late_as_github_asks(fault, waits, ours, repo, github):
    github.faults.add(fault)
    ours.fail()
    assert fault.fired == len(waits)
    assert ours.clock.slept == waits
    assert len(repo.issues) == 1


def test_an_issue_that_is_not_shown_for_a_moment_is_not_looked_for_elsewhere(ours, repo, github):
    ours.fail()
    asked(github)
    fault = github.faults.add(Fault("status", match="GET .*/issues/1$", status=503, times=1))
    ours.fail()
    assert (fault.fired, asked(github)[:2]) == (1, ["GET /issues/1"] * 2)


def test_a_limit_is_not_taken_for_a_missing_right(ours, github):
    github.faults.add(Fault("status", status=403, headers={"X-RateLimit-Remaining": "0"}))
    [line] = ours.fail()
    assert "403" in line["because"]
    assert "issues: write" not in line["because"]


def test_the_marker_holds_no_more_than_a_name(ours, repo):
    ours.fail(HF_REPO_NAME="ada/--><b> @all")
    assert f"\n<!-- training-completion-agent job={JOB} repo=ada/--ball -->\n" in repo.issues[0]["body"]


def test_a_wait_that_is_too_long_is_not_waited_for(ours, repo, github):
    fault = github.faults.add(Fault("status", status=429, retry_after=11))
    [line] = ours.fail()
    assert (fault.fired, ours.clock.slept, repo.issues) == (1, [], [])
    assert "429" in line["because"]


def test_github_that_is_down_costs_less_than_a_minute(ours, github):
    fault = github.faults.add(Fault("status", status=502))
    [line] = ours.fail()
    assert (line["event"], fault.fired, sum(ours.clock.slept)) == ("not notified", 5, 15.0)
    fault = github.faults.add(Fault("status", status=429, retry_after=10))
    github.faults.clear()
    github.faults.add(fault)
    ours.fail()
    assert sum(ours.clock.slept[4:]) <= 60


def test_github_that_cannot_be_reached_is_said(ours, github):
    [line] = ours.fail(GITHUB_API_URL=github.closed_endpoint)
    assert line["because"].startswith("GitHub cannot be reached")
    assert "perhaps" not in line


@pytest.mark.parametrize(("match", "perhaps"), [("GET ", False), (CREATE, True)])
def test_only_a_request_that_writes_may_have_been_heard_without_an_answer(match, perhaps, ours, github, repo):
    fault = github.faults.add(Fault("reset", match=match))
    [line] = ours.fail()
    assert (line["event"], fault.fired, "perhaps" in line) == ("not notified", 5, perhaps)
    assert repo.issues == []


def test_an_answer_that_trickles_ends_with_our_time():
    left_s = iter([5.0, 4.0, 3.0, 2.0, 1.0])
    with trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n[") as address:
        github = GitHub(address, REPO, GITHUB_TOKEN, lambda: next(left_s, 0.0))
        with github, pytest.raises(NotToldError, match="without end"):
            github.page("/issues")


@contextlib.contextmanager
def trickling(head):
    """The address of a server that begins an answer and never ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError), listener.accept()[0] as line:
                line.sendall(head)
                line.settimeout(0.02)
                while True:
                    line.sendall(b" ")
                    with contextlib.suppress(TimeoutError):
                        line.recv(2**16)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.join(10)


def test_an_answer_without_end_is_not_read_to_its_end(ours, github, repo):
    body = json.dumps({"message": "x" * (17 * 2**20)})
    fault = github.faults.add(Fault("status", status=500, body=body))
    [line] = ours.fail()
    assert fault.fired == 5
    assert "without end" in line["because"]


def test_the_number_of_another_repository_is_not_taken_for_ours(ours, github, repo):
    ours.fail()
    other = github.add_repository("ada/other")
    other.add("theirs", "text")
    ours.fail(GITHUB_REPOSITORY="ada/other")
    assert [issue["title"] for issue in other.issues] == ["theirs", OPENED]
    assert other.comments[1] == []
    ours.succeed(GITHUB_REPOSITORY="ada/other")
    assert states(other) == ["open", "closed"]
    ours.succeed()
    assert states(repo) == ["closed"]


def test_the_token_travels_in_its_header_only(ours, github):
    ours.fail()
    ours.succeed()
    for one in github.requests:
        assert one.headers["authorization"] == f"Bearer {GITHUB_TOKEN}"
        assert GITHUB_TOKEN not in one.path + one.query
    assert GITHUB_TOKEN not in (ours.home / JOB / NOTIFIED / "journal.json").read_text()


def test_a_training_that_failed_is_one_failure_however_often_its_pod_starts_again(ours, repo, github):
    from agent.errors import TrainingFailedError

    ours.fail(
        TrainingFailedError("The training failed after 3 min: CUDA ran out of memory.", hint="Use less.")
    )
    assert repo.issues[0]["title"] == f"Training job {JOB}: training failed"
    asked(github)
    ours.fail(TrainingFailedError("The training of this job failed in this pod already.", hint="Another id."))
    assert (asked(github), repo.comments[1]) == ([], [])


def test_a_job_without_an_id_is_known_by_where_it_trains(ours, repo):
    unnamed = {"JOB_ID": "", "HF_REPO_NAME": "ada/model", "RUNPOD_POD_ID": "pod1"}
    ours.fail(**unnamed)
    ours.fail(**unnamed)
    ours.fail(**unnamed | {"RUNPOD_POD_ID": "pod2"})
    assert [len(repo.comments[issue["number"]]) for issue in repo.issues] == [1, 0]
    ours.succeed(**unnamed)
    assert states(repo) == ["closed", "open"]
