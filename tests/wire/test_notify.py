"""Who is told how a job ended: real mails and webhooks, counted after everything that can go wrong."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading

import pytest

from agent import log
from agent.errors import (
    HubAuthError,
    HubUnreachableError,
    JobRefusedError,
    JobUnreachableError,
    TrainingFailedError,
)
from agent.journal import Journal, Lock
from agent.notify import NOTIFIED, warn_of_pod
from agent.notify.channel import Channel, load
from agent.notify.failure import NotToldError
from agent.notify.ledger import Ledger
from agent.notify.message import compose
from agent.outcome import Outcome
from agent.retry import Patience
from agent.sandbox.loopback import Fault
from tests.conftest import ROOT
from tests.notified import GITHUB_TOKEN, JOB, REFUSED, REPO, Job, completed, failed
from tests.wire.test_parting import run_that_ended

pytest_plugins = ("tests.receiving",)
# One of apprise's plugins still needs it.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")
DONE = "Published: ada/model"


def counts(hooks, mailbox, github):
    [repo] = github.repositories.values()
    services = [service for service, _ in hooks.messages]
    return services.count("hooks"), services.count("services"), len(mailbox.mails), len(repo.issues)


def test_a_success_is_told_once_to_each_and_opens_no_issue(everywhere, hooks, mailbox, github):
    logs = everywhere.succeed()
    assert counts(hooks, mailbox, github) == (1, 1, 1, 0)
    assert [line["event"] for line in logs] == ["notified"] * 3
    for _ in range(3):
        assert everywhere.succeed() == []
    assert counts(hooks, mailbox, github) == (1, 1, 1, 0)
    (text,) = [document["text"] for service, document in hooks.messages if service == "hooks"]
    for part in (
        "Published: ada/model",
        "Model: https://huggingface.co/ada/model",
        "Commit: https://huggingface.co/ada/model/commit/06bafaf64c6fc215e71ac3ae0f5e1759b09a991d",
        "Training: SFT of meta/llama, eval_loss 1.25",
        "Size: 10 files, 12.6 MB",
        f"Job: {JOB}, completed in a local file",
    ):
        assert part in text
    [mail] = mailbox.mails
    assert mail["Subject"] == DONE
    assert "https://huggingface.co/ada/model" in mail.get_body(("plain", "html")).get_content()


def test_a_failure_is_told_once_to_each_and_is_an_issue(everywhere, hooks, mailbox, github):
    everywhere.fail()
    assert counts(hooks, mailbox, github) == (1, 1, 1, 1)
    everywhere.fail()
    assert counts(hooks, mailbox, github) == (1, 1, 1, 1)
    text = hooks.messages[0][1]["text"]
    for part in (
        f"Not published: job {JOB}", "hub-auth: HF_TOKEN is read-only.", "What to do: Set another HF_TOKEN.",
        f"Job: {JOB}, failed in a local file", f"On its disk: {everywhere.home}/{JOB}",
    ):  # fmt: skip
        assert part in text
    [issue] = github.repositories[REPO].issues
    assert issue["title"] == f"Training job {JOB}: not published"
    assert f"\n<!-- training-completion-agent job={JOB} repo=unknown -->\n" in issue["body"]
    assert "```text\nHF_TOKEN is read-only.\n```" in issue["body"]


def test_failures_that_differ_are_told_each_and_the_success_after_them_once(
    everywhere, hooks, mailbox, github
):
    second = HubAuthError("HF_TOKEN is unknown.", hint="Set another HF_TOKEN.")
    for step in (everywhere.fail, lambda: everywhere.fail(second), everywhere.fail, everywhere.succeed):
        step()
    assert counts(hooks, mailbox, github) == (3, 3, 3, 1)
    everywhere.fail()
    everywhere.succeed()
    assert counts(hooks, mailbox, github) == (3, 3, 3, 1)
    assert [mail["Subject"] for mail in mailbox.mails][-1] == DONE


def test_what_passes_in_a_message_makes_no_new_failure(everywhere, hooks):
    said = "The Hub gave no answer for {} s (request Root={})."
    for seconds, request in ((900, "1-69a0b1c2-0f1e2d3c4b5a6978"), (902.5, "1-69a0b1c9-77aa2d3c4b5a6978")):
        error = HubUnreachableError(said.format(seconds, request), hint="Run the same command again.")
        everywhere.fail(error)
    assert len(hooks.messages) == 2  # one to each of the two chats
    everywhere.fail(HubUnreachableError("3 of 5 shards are there.", hint="Run it again."))
    everywhere.fail(HubUnreachableError("4 of 5 shards are there.", hint="Run it again."))
    assert len(hooks.messages) == 6


@pytest.mark.parametrize(
    ("outcome", "exit_code", "headline"),
    [
        (failed(JobUnreachableError("silent", hint="Wait."), published=True), 76, "Published, not recorded"),
        (failed(JobRefusedError("no row", hint="Look."), published=True), 15, "Published, not recorded"),
        (failed(JobRefusedError("no row", hint="Look.")), 15, "Not published"),
        (failed(REFUSED, published=True), 12, "Published, then failed"),
        (failed(HubUnreachableError("silent", hint="Wait.")), 75, "Not published"),
        (Outcome("skipped", note="no HF_TOKEN", files=3, job_id=JOB), 0, "Not published, on purpose"),
        (Outcome("not-published", note="2 <= 1: no", files=3, job_id=JOB), 0, "Not published, on purpose"),
    ],
)
def test_the_first_words_say_how_it_ended(outcome, exit_code, headline, job, hooks):
    job(AGENT_NOTIFY_URLS=hooks.mattermost).tell(outcome, exit_code)
    [(_, document)] = hooks.messages
    assert document["text"].startswith(f"{headline}: job {JOB}")
    assert (outcome.note or outcome.error["message"]).replace("<", "\u2039") in document["text"]


@pytest.mark.parametrize(
    ("outcome", "exit_code"),
    [
        (Outcome("cancelled", job_id=JOB), 15),
        (Outcome("skipped", note="NODE_RANK is 1: only the main process of the main node publishes"), 0),
        (Outcome("completed", note="the job was completed already; nothing was trained"), 0),
    ],
)
def test_nobody_hears_of_what_a_person_did_or_another_process_does(
    outcome, exit_code, everywhere, hooks, mailbox, github
):
    everywhere.tell(outcome, exit_code)
    assert counts(hooks, mailbox, github) == (0, 0, 0, 0)
    assert github.requests == []
    assert not everywhere.home.exists()


# --- one address: what its server says, how often it was told, what the next run does ---


def mattermost(job, hooks):
    return job(AGENT_NOTIFY_URLS=hooks.mattermost)


@pytest.mark.parametrize(
    ("fault", "waits", "arrived"),
    [
        (Fault("status", status=503, times=1), [1.0], 1),
        (Fault("status", status=500, times=2), [1.0, 2.0], 1),
        (Fault("status", status=429, retry_after=9, times=1), [10.0], 1),
        (Fault("reset", times=1), [1.0], 1),
        (Fault("lost", times=1), [1.0], 2),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_what_may_pass_is_tried_again(fault, waits, arrived, job, hooks):
    one = mattermost(job, hooks)
    hooks.faults.add(fault)
    logs = one.succeed()
    assert fault.fired == len(waits)
    assert one.clock.slept == waits
    assert [line["event"] for line in logs] == ["notified"]
    assert len(hooks.messages) == arrived
    assert one.succeed() == []
    assert len(hooks.messages) == arrived


@pytest.mark.parametrize(
    ("kind", "status", "arrived"), [("lost", 0, 2), ("reset", 0, 0), ("status", 502, 0), ("status", 504, 0)]
)
def test_two_sends_of_unknown_end_are_the_last(kind, status, arrived, job, hooks):
    """Each may have arrived; a third could be the third in somebody's inbox."""
    one = mattermost(job, hooks)
    fault = hooks.faults.add(Fault(kind, status=status))
    [line] = one.succeed()
    assert (line["event"], line["log_level"], fault.fired) == ("not notified", "warning", 2)
    assert line["perhaps"] == "it may have arrived all the same"
    hooks.faults.clear()
    assert one.succeed() == []
    assert len(hooks.messages) == arrived


def test_a_refusal_is_told_in_the_servers_words_and_tried_again_by_the_next_run_only(job, hooks):
    one = mattermost(job, hooks)
    fault = hooks.faults.add(
        Fault("status", status=403, body="<p>Action prohibited for mmhook1234567890abcdefghij</p>")
    )
    for _ in range(3):
        [line] = one.succeed()
        assert line["who"] == "mmost"
        assert line["because"] == "status 403: Action prohibited for [hidden]"
        assert "perhaps" not in line
    assert (fault.fired, one.clock.slept) == (3, [])
    hooks.faults.clear()
    one.succeed()
    assert len(hooks.messages) == 1


def test_a_server_that_is_not_there_was_not_told(job, hooks):
    address = f"{hooks.closed_endpoint.replace('http:', 'json:')}/path/abcdefghsecret"
    one = job(AGENT_NOTIFY_URLS=address)
    [line] = one.succeed()
    assert "Connection refused" in line["because"]
    assert "abcdefghsecret" not in str(line)
    assert one.clock.slept == [1.0, 2.0, 4.0, 8.0]
    [line] = one.succeed()  # taken back: the next run tries as often
    assert "Connection refused" in line["because"]
    assert len(one.clock.slept) == 8


def test_a_server_that_never_answers_is_left_behind(job, hooks):
    one = mattermost(job, hooks)
    fault = hooks.faults.add(Fault("hang"))
    channel = channel_of(one, hooks.mattermost)
    for _ in range(2):
        with pytest.raises(NotToldError, match=r"timed out|within") as caught:
            channel.tell(0.6)
        assert caught.value.perhaps
    assert not caught.value.later
    assert (fault.fired, channel.is_told) == (2, True)


def channel_of(one, address):
    ledger = Ledger(Journal(one.home / JOB / NOTIFIED))
    message = compose(one.config(), completed(), 0, one.home / JOB)
    return Channel(address, 0, message, ledger)


def test_the_read_timeout_of_an_address_is_not_shorter_than_ours(job, hooks):
    """A slow server that took the message must not be told it a second time."""
    hooks.faults.add(Fault("slow", delay_s=4.5))
    one = job(AGENT_NOTIFY_URLS=f"{hooks.mattermost}?rto=1.0")
    [line] = one.succeed()
    assert line["event"] == "notified"
    assert len(hooks.messages) == 1


def test_an_address_retries_and_pieces_of_its_own_do_not_count(job, hooks):
    one = job(AGENT_NOTIFY_URLS=f"{hooks.mattermost}?retry=5&wait=30&optional=yes")
    fault = hooks.faults.add(Fault("lost"))
    [line] = one.succeed()
    assert (fault.fired, line["event"]) == (2, "not notified")


def test_an_address_that_apprise_does_not_know_is_named_and_keeps_nobody_else(job, hooks):
    one = job(AGENT_NOTIFY_URLS=f"slack://bogus-password-1, carrier-pigeon://loft, {hooks.mattermost}")
    logs = one.succeed()
    told = {line["who"]: line["event"] for line in logs}
    assert told == {
        "slack, address 1 of AGENT_NOTIFY_URLS": "not notified",
        "carrier-pigeon, address 2 of AGENT_NOTIFY_URLS": "not notified",
        "mmost, address 3 of AGENT_NOTIFY_URLS": "notified",
    }
    assert "bogus-password-1" not in str(logs)


def test_one_address_that_is_down_takes_no_message_from_the_others(everywhere, hooks, mailbox, github):
    fault = hooks.faults.add(Fault("status", match="/hooks/", status=503))
    logs = everywhere.fail()
    assert counts(hooks, mailbox, github) == (0, 1, 1, 1)
    assert fault.fired == 5
    assert [line["event"] for line in logs] == ["notified"] * 3 + ["not notified"]
    everywhere.fail()
    assert counts(hooks, mailbox, github) == (0, 1, 1, 1)


class Trickle:
    """A server that greets for ever, a sign at a time, and never says what it has to say."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return self.listener.getsockname()[1]

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                line, _ = self.listener.accept()
                threading.Thread(target=self.greet, args=(line,), daemon=True).start()

    @staticmethod
    def greet(line):
        with contextlib.suppress(OSError), line:
            while True:
                line.sendall(b"2")
                line.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    line.recv(1)

    def __exit__(self, *_):
        self.listener.close()


STUCK = """
from agent import config, notify
from agent.notify import delivery
from agent.outcome import Outcome
delivery.LONGEST_CALL_S = 1.0
done = Outcome("completed", published=True)
notify.tell(config.load(), done, 0, clock=lambda: 0.0, sleep=lambda seconds: None)
"""


def test_a_server_that_never_finishes_does_not_keep_the_process(tmp_path):
    """The message is given up, and nothing of apprise waits for it when the process ends."""
    with Trickle() as port:
        environ = {
            "PYTHONPATH": str(ROOT), "AGENT_STATE_DIR": str(tmp_path), "JOB_ID": JOB,
            "AGENT_NOTIFY_URLS": f"mailto://127.0.0.1:{port}?from=a@b.example&to=c@d.example&mode=insecure",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", STUCK],
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    assert "no answer within" in done.stdout


def test_several_rooms_of_one_address_are_told_without_pauses(job, hooks):
    """apprise would pause for seconds between them, of which telling has few."""
    service = load(f"{hooks.mattermost}?channels=one,two")
    assert service.request_rate_per_sec == 0
    job(AGENT_NOTIFY_URLS=f"{hooks.mattermost}?channels=one,two").succeed()
    assert sorted(document["channel"] for _, document in hooks.messages) == ["one", "two"]


@pytest.mark.parametrize(("asked", "mode"), [("", "truncate"), ("&overflow=split", "split")])
def test_a_message_that_is_too_long_is_cut_unless_the_address_wants_pieces(asked, mode, hooks):
    assert load(f"{hooks.mattermost}?footer=no{asked}").overflow_mode.value == mode


def test_a_password_is_hidden_in_the_spelling_of_its_plugin():
    load("json://ada:p%40ssw0rd%21x@127.0.0.1/hook")
    assert log.redact("login p@ssw0rd!x refused") == "login [hidden] refused"


def test_a_plugin_that_breaks_keeps_nobody_else(job, hooks, mailbox, monkeypatch):
    monkeypatch.setattr("apprise.Apprise.notify", broken)
    logs = job(AGENT_NOTIFY_URLS=f"{hooks.mattermost}, {mailbox.address}").succeed()
    assert [line["event"] for line in logs] == ["not notified"] * 2


def broken(*_, **__):
    raise ZeroDivisionError


def test_a_training_that_failed_is_told_once_however_often_its_pod_starts_again(job, hooks):
    one = mattermost(job, hooks)
    one.fail(
        TrainingFailedError("The training failed after 3 min: CUDA ran out of memory.", hint="Use less.")
    )
    one.fail(TrainingFailedError("The training of this job failed in this pod already.", hint="Another id."))
    [(_, document)] = hooks.messages
    assert "CUDA ran out of memory" in document["text"]


def test_a_success_that_was_not_told_before_its_container_ended_is_told_by_the_next(job, hooks):
    """All that the next one knows of its own is that the pod did all of it already."""
    one = mattermost(job, hooks)
    journal = Journal(one.home / JOB)
    journal.note("verified", once="abc123", commit="abc123", repo_id="ada/model")
    journal.note("recorded", once="1", model_url="https://huggingface.co/ada/model")
    one.tell(Outcome("completed", published=True, note="this pod did all of it already"), 0)
    text = hooks.messages[0][1]["text"]
    assert "Published: ada/model" in text
    assert "Commit: https://huggingface.co/ada/model/commit/abc123" in text
    assert "Model: https://huggingface.co/ada/model\n" in text


def test_a_failure_after_a_success_does_not_borrow_its_link(job, hooks):
    one = mattermost(job, hooks)
    Journal(one.home / JOB).note("recorded", once="1", model_url="https://huggingface.co/ada/model")
    one.fail()
    assert "Model:" not in hooks.messages[0][1]["text"]


def test_without_a_job_id_the_failures_before_a_success_are_another_jobs(job, hooks):
    one = job(AGENT_NOTIFY_URLS=hooks.mattermost, JOB_ID="")
    for step in (one.fail, one.fail, one.succeed, one.succeed, one.fail):
        step()
    heads = [document["text"].partition(":")[0] for _, document in hooks.messages]
    assert heads == ["Not published", "Published", "Not published"]


# --- mail ---


def test_a_mail_in_html_has_a_line_for_each_fact(job, mailbox):
    job(AGENT_NOTIFY_URLS=f"{mailbox.address}&format=html").succeed()
    html = mailbox.mails[0].get_body(("html",)).get_content()
    assert re.search(r"huggingface\.co/ada/model<br ?/?>\s*Commit:", html)


@pytest.mark.parametrize(
    ("replies", "mails", "waits"),
    [
        (["451 4.7.1 Try again later"], 1, [1.0]),
        (["554 5.7.1 Spam"], 0, []),
        (["421 4.3.2 Bye"] * 2, 1, [1.0, 2.0]),
    ],
)
def test_a_mail_that_is_put_off_is_sent_again_and_one_that_is_refused_is_not(
    replies, mails, waits, job, mailbox
):
    one = job(AGENT_NOTIFY_URLS=mailbox.address)
    mailbox.refuse = list(replies)
    logs = one.succeed()
    assert (len(mailbox.mails), one.clock.slept, mailbox.refuse) == (mails, waits, [])
    if not mails:
        assert "554" in logs[0]["because"]
        assert "Spam" in logs[0]["because"]
        assert "perhaps" not in logs[0]
        one.succeed()
        assert len(mailbox.mails) == 1


def test_a_mail_whose_answer_is_lost_twice_is_not_sent_a_third_time(job, mailbox):
    one = job(AGENT_NOTIFY_URLS=mailbox.address)
    mailbox.lose = 9
    one.succeed()
    one.succeed()
    assert (len(mailbox.mails), mailbox.lose) == (2, 7)


def test_of_two_recipients_none_gets_more_than_two_mails(job, mailbox):
    """apprise only tells that one of them did not get it."""
    one = job(AGENT_NOTIFY_URLS=mailbox.address.replace("to=", "to=bob@example.com,"))
    mailbox.blocked = {"bob@example.com"}
    for _ in range(4):
        one.succeed()
    assert len(mailbox.mails) in {1, 2}


def test_without_apprise_one_line_says_how_to_get_it_and_the_issue_is_opened(
    everywhere, hooks, github, monkeypatch
):
    monkeypatch.setitem(sys.modules, "apprise", None)
    logs = everywhere.fail()
    assert [line["event"] for line in logs] == ["nobody in AGENT_NOTIFY_URLS was told", "notified"]
    assert logs[0]["hint"] == "pip install 'training-completion-agent[notify]'"
    assert (len(hooks.messages), len(github.repositories[REPO].issues)) == (0, 1)


# --- the volume ---


def test_without_a_state_folder_everybody_is_told_once_a_run(everywhere, hooks, mailbox, github, tmp_path):
    (tmp_path / "file").touch()
    for run in (1, 2):
        everywhere.fail(AGENT_STATE_DIR=str(tmp_path / "file" / "state"))
        assert counts(hooks, mailbox, github) == (run, run, run, 1)
    assert len(github.repositories[REPO].comments[1]) == 1


def test_a_ledger_that_was_damaged_is_an_empty_one(everywhere, hooks, mailbox, github):
    everywhere.fail()
    path = everywhere.home / JOB / NOTIFIED / "journal.json"
    document = json.loads(path.read_text())
    for damage in (
        "{",
        json.dumps(document | {"told": [1], "issue": "x"}),
        json.dumps(document | {"told": dict.fromkeys(document["told"], 3)}),
    ):
        path.write_text(damage)
        everywhere.fail()
    assert counts(hooks, mailbox, github) == (4, 4, 4, 1)


def test_the_ledger_holds_no_address_and_no_token(everywhere):
    everywhere.fail()
    everywhere.succeed()
    written = "".join(path.read_text() for path in everywhere.home.rglob("*") if path.is_file())
    for secret in ("mmhook", "TIiajkdnlazkcOXrIdevi7", "127.0.0.1", "example.com", GITHUB_TOKEN):
        assert secret not in written


def test_two_runs_at_once_on_one_volume_tell_it_once(everywhere, hooks, mailbox, github):
    """The second one waits for the first, and finds everything told."""
    inside, go_on = threading.Event(), threading.Event()
    mailbox.on_mail = lambda: (inside.set(), go_on.wait(30))
    first = threading.Thread(target=everywhere.succeed)
    first.start()
    assert inside.wait(30)
    second = Job(everywhere.home, **everywhere.environ)
    second.clock.sleep = lambda _seconds: (go_on.set(), first.join(30))
    second.succeed()
    assert counts(hooks, mailbox, github) == (1, 1, 1, 0)


def test_a_run_that_tells_for_ever_is_not_waited_for(job, hooks):
    one = mattermost(job, hooks)
    with Lock(one.home / JOB / NOTIFIED, Patience(9.0)):
        one.succeed()
    assert 5 < one.clock.now - 1000 <= 10
    assert len(hooks.messages) == 1


def test_a_pod_that_is_still_there_is_told_once_and_is_no_issue(everywhere, hooks, mailbox, github):
    """Nobody watches a pod that nothing could stop."""
    sentence = "Nothing could stop this pod, and it goes on costing money: 403 Forbidden"
    for _ in range(2):
        warn_of_pod(
            everywhere.config(RUNPOD_POD_ID="k3x9w2"),
            completed(),
            sentence,
            clock=everywhere.clock,
            sleep=everywhere.clock.sleep,
        )
    assert counts(hooks, mailbox, github) == (1, 1, 1, 0)
    [mail] = mailbox.mails
    assert mail["Subject"] == f"Still running: the pod of job {JOB}"
    told = mail.get_body(("plain", "html")).get_content()
    assert "Nothing could stop this pod, and it goes on costing money" in told
    assert "https://console.runpod.io/pods?id=k3x9w2" in told
    assert not github.requests


def test_a_run_whose_pod_nothing_can_stop_tells_it(hooks, tmp_path, slept):
    """Through the end of the pod itself, after its answer."""
    more = {"AGENT_NOTIFY_URLS": hooks.mattermost, "RUNPOD_API_KEY": "", "JOB_ID": JOB}
    run_that_ended(tmp_path, 0, "completed", True, 0, **more).leave(0)
    [(_, document)] = hooks.messages
    assert f"Still running: the pod of job {JOB}" in document["text"]
    assert "there is no RUNPOD" in document["text"]
