from __future__ import annotations

import errno
import fcntl
import itertools
import json
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from agent import log
from agent.durable import append_durably, read_trail
from agent.journal import Journal, Lock
from agent.retry import Patience
from tests.conftest import ROOT

LETTER = {"kind": "complete", "job_id": "j", "model_url": "https://huggingface.co/ada/m", "note": None}
SECRET = "planted-secret-of-the-journal"


@pytest.fixture
def journal(tmp_path):
    ticks = itertools.count(1)
    return Journal(tmp_path / "job", now=lambda: f"t{next(ticks)}")


def test_what_is_posted_waits_for_the_next_run(journal, tmp_path):
    assert journal.outbox is None
    journal.post(LETTER)
    assert Journal(tmp_path / "job").outbox == LETTER
    journal.post(None)
    assert Journal(tmp_path / "job").outbox is None


def test_every_truncation_of_the_journal_costs_the_letter_at_most(journal, tmp_path):
    journal.keep(commit="c" * 40)
    journal.post(LETTER)
    path = tmp_path / "job" / "journal.json"
    whole = path.read_bytes()
    found = []
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        again = Journal(tmp_path / "job")
        found.append(again.outbox)
        again.keep(seen=length)
        assert Journal(tmp_path / "job").outbox == found[-1]
    assert found[-1] == LETTER
    assert found[:-1] == [None] * len(whole)


def test_a_letter_that_is_not_what_was_meant_is_not_delivered(journal, tmp_path):
    journal.post(LETTER)
    path = tmp_path / "job" / "journal.json"
    path.write_text(path.read_text().replace("ada/m", "eve/m"))
    assert Journal(tmp_path / "job").outbox is None


@pytest.mark.parametrize(
    "document",
    [
        [],
        "x",
        {"version": 2, "outbox": {}},
        {"version": 1, "outbox": "x"},
        {"version": 1, "outbox": {"letter": 1}},
    ],
)
def test_a_journal_of_another_make_is_an_empty_one(document, journal, tmp_path):
    journal.post(LETTER)
    (tmp_path / "job" / "journal.json").write_text(json.dumps(document))
    assert Journal(tmp_path / "job").outbox is None


def test_the_trail_grows_by_lines_and_passes_over_a_torn_one(journal, tmp_path):
    journal.note("started")
    path = tmp_path / "job" / "audit.jsonl"
    with path.open("ab") as stream:
        stream.write(b'{"event": "comm')
    Journal(tmp_path / "job", now=lambda: "later").note("committed", commit="c")
    events = [(entry["time"], entry["event"]) for entry in read_trail(path)]
    assert events == [("t1", "started"), ("later", "committed")]
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("length", range(20))
def test_a_trail_cut_anywhere_keeps_its_whole_lines(length, tmp_path):
    path = tmp_path / "trail"
    append_durably(path, {"n": 1})
    first = path.stat().st_size
    append_durably(path, {"n": 2})
    path.write_bytes(path.read_bytes()[: first + length % first])
    append_durably(path, {"n": 3})
    assert [entry["n"] for entry in read_trail(path)] in ([1, 3], [1, 2, 3])


def test_no_secret_reaches_the_journal(journal, tmp_path):
    log.hide([SECRET])
    journal.note("failed", because=f"the server said {SECRET}")
    journal.post(LETTER | {"note": f'a "quoted" {SECRET}'})
    written = "".join(path.read_text() for path in (tmp_path / "job").iterdir())
    assert SECRET not in written
    assert "[hidden]" in written


def test_a_journal_that_cannot_be_written_says_so_once_and_goes_on(tmp_path):
    (tmp_path / "job").write_text("a file where the folder should be")
    journal = Journal(tmp_path / "job")
    with capture_logs() as said:
        journal.note("started")
        journal.post(LETTER)
        journal.note("committed")
    assert [entry["event"] for entry in said] == ["the journal cannot be written; going on without"]
    assert journal.outbox == LETTER


def events(journal):
    return [entry["event"] for entry in journal.untold]


def test_events_that_were_not_told_wait_for_the_next_run(journal, tmp_path):
    for event in ("started", "committed", "verified"):
        journal.note(event)
    journal.told(journal.untold[:2])
    assert events(journal) == ["verified"]
    again = Journal(tmp_path / "job")
    assert events(again) == ["verified"]
    again.told(again.untold)
    assert events(Journal(tmp_path / "job")) == []


def test_two_who_tell_the_same_events_lose_none_that_came_meanwhile(journal):
    """As a heartbeat and the end of a run may."""
    journal.note("started")
    by_one, by_other = journal.untold, journal.untold
    journal.told(by_one)
    journal.note("committed")
    journal.told(by_other)
    assert events(journal) == ["committed"]


def test_what_can_happen_only_once_is_noted_once(journal, tmp_path):
    journal.note("committed", once="c" * 40)
    journal.note("committed", once="c" * 40)
    again = Journal(tmp_path / "job")
    again.note("committed", once="c" * 40)
    again.note("committed", once="d" * 40)
    keys = [entry["key"] for entry in again.untold]
    assert keys == [f"committed:{'c' * 40}", f"committed:{'d' * 40}"]


def test_every_event_has_a_key_of_its_own(journal, tmp_path):
    for each in (journal, Journal(tmp_path / "job"), Journal(tmp_path / "job")):
        each.note("started")
        each.note("started")
    assert len({entry["key"] for entry in read_trail(tmp_path / "job" / "audit.jsonl")}) == 6


@pytest.mark.parametrize("told", [-1, 7, "x", None, [1]])
def test_a_count_that_cannot_be_means_that_nothing_was_told(told, journal, tmp_path):
    journal.note("started")
    (tmp_path / "job" / "journal.json").write_text(json.dumps({"version": 1, "told_events": told}))
    assert events(Journal(tmp_path / "job")) == ["started"]


def test_what_json_cannot_hold_is_no_reason_to_stop(journal):
    with capture_logs() as said:
        journal.note("metrics", loss=float("nan"))
    assert len(said) == 1


def test_the_second_finalizer_waits_until_the_first_has_ended(tmp_path):
    order, inside, asked = [], threading.Event(), threading.Event()

    def first():
        with Lock(tmp_path, Patience(60)):
            inside.set()
            assert asked.wait(30)
            order.append("first ends")

    def sleep(_seconds):
        asked.set()

    holder = threading.Thread(target=first)
    holder.start()
    assert inside.wait(30)
    with Lock(tmp_path, Patience(60, sleep=sleep)):
        order.append("second begins")
    holder.join()
    assert order == ["first ends", "second begins"]


def test_a_lock_whose_holder_was_killed_is_free(tmp_path):
    code = (
        "import sys, pathlib\nfrom agent.journal import Lock\nfrom agent.retry import Patience\n"
        f"with Lock(pathlib.Path({str(tmp_path)!r}), Patience(60)):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        holder.kill()
        holder.wait()

    with Lock(tmp_path, Patience(60, sleep=sleep)):
        assert slept
    holder.stdin.close()
    holder.stdout.close()


def test_patience_ends_the_waiting_and_the_work_goes_on(tmp_path, clock):
    with (
        Lock(tmp_path, Patience(60)),
        capture_logs() as said,
        Lock(tmp_path, Patience(10, clock=clock, sleep=clock.sleep)),
    ):
        assert 8 <= sum(clock.slept) <= 10
    assert said[-1]["event"] == "going on without a lock"


@pytest.mark.parametrize("why", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_no_obstacle(why, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(why, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with capture_logs() as said, Lock(tmp_path, Patience(60)):
        pass
    assert said[-1]["event"] == "going on without a lock"


def test_a_folder_that_cannot_be_made_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("")
    with Lock(tmp_path / "file" / "job", Patience(60)):
        pass
