"""What a message says, what cannot be said with it, how long telling takes, what apprise's log proves."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from structlog.testing import capture_logs

from agent import log
from agent.config import load
from agent.journal import Journal
from agent.notify import words
from agent.notify.delivery import LONGEST_CALL_S, TOTAL_S, Budget, deliver
from agent.notify.evidence import judge
from agent.notify.failure import NotToldError
from agent.notify.ledger import Ledger, channel_key
from agent.notify.message import compose
from agent.outcome import Outcome

JOB = "6f1c2a54-9d0e-4a57-8c11-0123456789ab"
HOSTILE = (
    "@channel <!channel> <@U123> @everyone [x](http://evil.example) <b>bold</b> <img src=x> www.evil.example "
    "`code` **b** __i__ _i_ ~~s~~ ||s|| #general &lt; :fire: mailto:a@b.example \\* {{x}} ${Y} <!-- c --> "
    "ada/training#1 fixes #2\n# head\n- item\u202egnp.exe\u200b\x1b[31m\x00"
)


# --- words ---


def test_hostile_words_read_the_same_and_do_nothing():
    said = words.plain(HOSTILE, 1000)
    assert not re.search(r"[@#<>\[\]`*~|&\\{}$\n\x00\x1b\u200b\u202e]", said)
    assert not re.search(r"://|www\.|(?<!\w)_|_(?!\w)|:\w+:|mailto:", said)
    for word in ("channel", "everyone", "evil.example", "bold", "fire", "head"):
        assert word in said


@given(st.text())
def test_no_text_at_all_becomes_markup_or_a_mention(text):
    said = words.plain(text)
    assert not re.search(r"[@#<>\[\]`*~|&\\{}$\x00-\x1f]|://", said)
    assert len(said) <= 300
    html = MarkdownIt("commonmark", {"linkify": False}).render(f"label: {said}")
    assert not re.search(r"<(?!/?p>)", html)


@given(st.text())
def test_no_text_ends_its_code_span_or_block_or_opens_a_comment(text):
    markdown = MarkdownIt("commonmark")
    assert re.fullmatch(r"<p><code>[^<]*</code></p>\n", markdown.render(words.code(text)))
    assert re.fullmatch(
        r'<pre><code class="language-text">[^<]*</code></pre>\n', markdown.render(words.block(text))
    )
    assert "<!--" not in words.code(text) + words.block(text)


@pytest.mark.parametrize("text", ["```", "````", "`` ``` ``"])
def test_a_fence_in_foreign_words_ends_no_block(text):
    html = MarkdownIt("commonmark").render(f"{words.block(text)}\n\nafter")
    assert html.endswith("<p>after</p>\n")


def test_names_and_paths_stay_as_they_are():
    for said in ("eval_loss 1.25", "/workspace/fine_tuned_model", "model-00001-of-00002.safetensors", "50 %"):
        assert words.plain(said) == said


def test_a_secret_is_gone_before_anything_is_cut_or_changed():
    log.hide(["p@ss*word<1>"])
    assert words.plain(f"{'x' * 290}p@ss*word<1>") == "x" * 290 + "(hidden)"
    assert words.one_line("p@ss*word<1>" * 40, 20).startswith(log.HIDDEN)


def test_an_address_of_ours_ends_nothing_and_holds_no_credentials():
    told = words.address("https://ada:secret@hub.example/a b>(x)<y`z/tree/main?q=1")
    assert told == "https://hub.example/a%20b%3E%28x%29%3Cy%60z/tree/main?q=1"


# --- the message ---


def config(**more):
    environ = {"JOB_ID": JOB, "AGENT_STATE_DIR": "/state", "OUTPUT_DIR": "/out"} | more
    return load({name: value for name, value in environ.items() if value})


def test_what_strangers_wrote_is_words_in_every_line(tmp_path):
    error = {"code": "artifact", "message": HOSTILE, "hint": HOSTILE}
    training = {"method": HOSTILE, "base_model": HOSTILE, "metrics": {"eval_loss": 1.0, HOSTILE: 2.0}}
    outcome = Outcome(error=error, training=training, files=1, note=HOSTILE, job_status=HOSTILE)
    message = compose(config(), outcome, 11, tmp_path)
    assert not re.search(r"[@<>\[\]`*~|\\{}$]|://|www\.", message.title + message.text)
    html = MarkdownIt("commonmark").render(message.markdown)
    assert set(re.findall(r"<(\w+)", html)) <= {"p", "strong", "ul", "li", "code", "pre"}
    outside = re.sub(r"<code.*?</code>", "", html, flags=re.DOTALL)
    assert "@" not in outside
    assert "evil" not in outside
    assert "<!--" not in message.markdown


def test_a_long_failure_is_cut(tmp_path):
    error = {"code": "artifact", "message": "word " * 4000, "hint": "word " * 4000}
    message = compose(config(), Outcome(error=error), 11, tmp_path)
    assert len(message.text) < 3000
    assert len(message.markdown) < 4000


def test_it_says_where_more_is(tmp_path):
    environ = {
        "RUNPOD_POD_ID": "pod 1/x", "GITHUB_RUN_ID": "77", "GITHUB_REPOSITORY": "ada/training",
        "SUPABASE_URL": "https://abc.supabase.co", "SUPABASE_ANON_KEY": "anon-key-1", "JOBS_TABLE": "my_jobs",
    }  # fmt: skip
    error = {"code": "hub-auth", "message": "no", "hint": ""}
    text = compose(config(**environ), Outcome(error=error, job_status="failed"), 12, tmp_path).text
    assert "Log: https://github.com/ada/training/actions/runs/77" in text
    assert "Pod: https://console.runpod.io/pods?id=pod%201%2Fx" in text
    assert f"Job: {JOB}, failed in my_jobs of abc.supabase.co" in text
    assert f"On its disk: {tmp_path}\n" in f"{text}\n"
    assert "What to do" not in text
    (tmp_path / "training.log").touch()
    assert (
        f"On its disk: {tmp_path}/training.log" in compose(config(), Outcome(error=error), 12, tmp_path).text
    )


@pytest.mark.parametrize(
    ("size", "seconds", "said"),
    [
        (12_600_000, 34, "1 files, 12.6 MB; all of it took 34 s"),
        (15e9, 7510, "1 files, 15.0 GB; all of it took 2 h 5 min"),
        (0, 0, "1 files, 0.0 MB; all of it took 0 s"),
    ],
)
def test_figures_are_short(size, seconds, said, tmp_path):
    outcome = Outcome(
        "completed", published=True, files=1, size_bytes=size, started=time.monotonic() - seconds
    )
    assert said in compose(config(), outcome, 0, tmp_path).text


def test_a_commit_that_was_not_proven_is_not_linked(tmp_path):
    error = {"code": "verify-mismatch", "message": "model.safetensors differs", "hint": "Run it again."}
    outcome = Outcome(error=error, repo_id="ada/model", commit="abc")
    assert "Commit" not in compose(config(), outcome, 14, tmp_path).text


def test_only_the_metrics_that_matter_are_told(tmp_path):
    metrics = {
        "grad_norm": 1.0,
        "train_loss": 2.0,
        "eval_loss": 3.0,
        "rewards/accuracies": 0.5,
        "eval_accuracy": 0.25,
    }
    outcome = Outcome("completed", published=True, training={"method": "dpo", "metrics": metrics})
    text = compose(config(), outcome, 0, tmp_path).text
    assert "Training: DPO, eval_loss 3, train_loss 2, rewards/accuracies 0.5\n" in text


def test_events_of_jobs_without_an_id_are_those_of_their_model(tmp_path):
    unnamed = config(JOB_ID="")
    events = [
        compose(unnamed, Outcome("completed", published=True, commit=commit), 0, tmp_path).event
        for commit in ("abc", "abc", "def")
    ]
    assert events == ["completed:abc", "completed:abc", "completed:def"]
    error = {"code": "training-failed", "message": "out of memory", "hint": ""}
    failed = compose(unnamed, Outcome(error=error), 17, tmp_path)
    assert (failed.final, failed.event.startswith("failed:training-failed:")) == (False, True)


# --- delivery ---


class Receiver:
    """It answers with what it was given, one answer a call."""

    def __init__(self, clock, *answers, takes_s=0.0):
        self.name, self.clock, self.answers, self.takes_s = "somebody", clock, list(answers), takes_s
        self.given = []

    def tell(self, left_s):
        self.given.append(left_s)
        self.clock.now += min(self.takes_s, left_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NotToldError):
            raise answer
        return answer


def later(wait_s=None):
    return NotToldError("busy", later=True, wait_s=wait_s)


def test_all_of_it_takes_a_minute_whoever_is_silent(clock):
    silent = [Receiver(clock, later(), takes_s=99.0) for _ in range(12)]
    well = Receiver(clock, "done", takes_s=0.1)
    deliver([*silent, well], Budget(clock, clock.sleep))
    assert clock.now - 1000 <= TOTAL_S
    assert well.given
    assert all(given <= LONGEST_CALL_S for one in silent for given in one.given)
    assert max(clock.slept, default=0) <= 10


def test_pauses_grow_and_end(clock):
    busy = Receiver(clock, later())
    with capture_logs() as logs:
        deliver([busy], Budget(clock, clock.sleep))
    assert (clock.slept, len(busy.given)) == ([1.0, 2.0, 4.0, 8.0], 5)
    assert [line["event"] for line in logs] == ["not notified"]


def test_whoever_asks_for_ten_seconds_gets_them_as_often_as_they_fit(clock):
    busy = Receiver(clock, later(10.0), takes_s=3.0)
    deliver([busy], Budget(clock, clock.sleep))
    assert clock.slept == [10.0] * 4
    assert clock.now - 1000 <= TOTAL_S


def test_a_pause_that_does_not_fit_ends_it(clock):
    busy = Receiver(clock, later())
    with capture_logs() as logs:
        deliver([busy], Budget(clock, clock.sleep, total_s=2.5))
    assert (clock.slept, len(busy.given), len(logs)) == ([1.0], 2, 1)


def test_a_pause_that_does_not_fit_for_one_ends_it_for_that_one(clock):
    slow, quick = Receiver(clock, later(9.0)), Receiver(clock, later(), "done")
    deliver([slow, quick], Budget(clock, clock.sleep, total_s=8.0))
    assert (len(slow.given), len(quick.given), clock.slept) == (1, 2, [1.0])


def test_one_that_wants_too_long_a_pause_is_given_up_and_the_others_are_not(clock):
    slow, quick = Receiver(clock, later(11.0)), Receiver(clock, later(), "done")
    with capture_logs() as logs:
        deliver([slow, quick], Budget(clock, clock.sleep))
    assert (len(slow.given), len(quick.given), clock.slept) == (1, 2, [1.0])
    assert [line["event"] for line in logs] == ["not notified", "notified"]


def test_what_was_already_so_needs_no_line(clock):
    with capture_logs() as logs:
        deliver([Receiver(clock, None)], Budget(clock, clock.sleep))
    assert logs == []


# --- the ledger ---


def test_the_ledger_counts_what_may_have_arrived(tmp_path):
    def ledger():
        return Ledger(Journal(tmp_path))

    key = channel_key("slack://secret")
    ledger().begin(key, "completed")
    assert not ledger().is_closed(key, "completed")
    ledger().refused(key, "completed")
    ledger().begin(key, "completed")
    ledger().begin(key, "completed")
    assert ledger().is_closed(key, "completed")
    assert not ledger().is_closed(key, "failed:a:1")
    assert not ledger().is_closed(channel_key("slack://other"), "completed")
    ledger().sent(key, "failed:a:1")
    ledger().begin_anew()
    assert ledger().is_closed(key, "completed")
    assert not ledger().is_closed(key, "failed:a:1")
    assert "secret" not in (tmp_path / "journal.json").read_text()


def test_what_is_sent_is_closed_at_once(tmp_path):
    ledger = Ledger(Journal(tmp_path))
    ledger.begin("a", "completed")
    ledger.sent("a", "completed")
    assert Ledger(Journal(tmp_path)).is_closed("a", "completed")
    assert json.loads((tmp_path / "journal.json").read_text())["told"] == {"a": {"completed": "sent"}}


# --- evidence ---

UNREACHED = (
    "Socket Exception: HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /T0/secret "
    "(Caused by NewConnectionError(\"HTTPSConnection(host='h', port=443): Failed to establish a new "
    'connection: [Errno 111] Connection refused"))'
)
ABORTED = "Socket Exception: ('Connection aborted.', RemoteDisconnected('Remote end closed connection'))"


@pytest.mark.parametrize(
    ("lines", "later", "perhaps"),
    [
        ([("WARNING", "Failed to send: Page not found., error=404.")], False, False),
        ([("WARNING", "Failed to send: error=429.")], True, False),
        ([("WARNING", "Failed to send: error=408.")], True, True),
        ([("WARNING", "Failed to send: error=500.")], True, False),
        ([("WARNING", "Failed to send: error=503.")], True, False),
        ([("WARNING", "Failed to send: error=504.")], True, True),
        ([("WARNING", "Failed to send: error=524.")], True, True),
        ([("WARNING", "Failed to send: error=200.")], True, True),
        ([("WARNING", "A Connection error occurred"), ("DEBUG", UNREACHED)], True, False),
        ([("DEBUG", ABORTED)], True, True),
        ([("DEBUG", "Socket Exception: timed out")], True, True),
        ([("DEBUG", "Socket Exception: Connection unexpectedly closed")], True, True),
        ([("DEBUG", "Socket Exception: (535, b'5.7.8 Bad credentials')")], False, False),
        ([("DEBUG", "Socket Exception: (451, b'4.7.1 Greylisted')")], True, False),
        ([("WARNING", "SMTP recipient a@b was refused: 550 b'no such user'")], False, False),
        ([("INFO", "Sent Email to a@b"), ("DEBUG", "Socket Exception: (550, b'no')")], False, True),
        ([("INFO", "Sent Slack notification."), ("WARNING", "Failed: error=404.")], False, True),
        ([("WARNING", "Failed: error=404."), ("DEBUG", ABORTED)], False, True),
        ([("DEBUG", "Slack Payload: {'text': 'error=404.'}")], True, True),
        ([("ERROR", "This plugin needs a library")], True, False),
        ([], True, True),
    ],
)  # fmt: skip
def test_a_refusal_is_told_from_an_end_that_nobody_knows(lines, later, perhaps):
    failure = judge(lines)
    assert (failure.later, failure.perhaps) == (later, perhaps)
    assert "secret" not in failure.words
    assert failure.words


def test_the_servers_own_words_are_kept():
    lines = [
        ("WARNING", "Failed to send to Slack: Forbidden., error=403."),
        ("DEBUG", "Response Details:\r\nb'<b>action</b> prohib\\xc3\\xadted'"),
    ]
    assert judge(lines).words == "status 403: action prohibíted"
    assert judge([("DEBUG", "Response Details:\r\n{not python")]).words == "{not python"
    assert judge([("DEBUG", UNREACHED)]).words.endswith('Connection refused"))')
