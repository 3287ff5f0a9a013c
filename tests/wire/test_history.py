"""`history`: from the database, from the volume, and what it does when one of them is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from agent import glance
from agent.config import load
from agent.history import History, recall
from agent.history_view import show
from agent.jobs.supabase import SupabaseStore
from agent.journal import Journal
from agent.retry import Patience
from agent.sandbox.loopback import Fault
from tests.conftest import ROOT
from tests.wire.test_audit_trail import EVENTS, PUBLISHED
from tests.wire.test_job_row import told


def recalled(pod, folder, *, last=100, local=False, **environ):
    history = History(last, local)
    clock = pod.clock
    patience = Patience(60, clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    recall(load(pod.environ(folder, **environ)), history, patience)
    return history


def names(history):
    return [event["event"] for event in history.events]


@pytest.fixture
def published(app, pod, hub, trained):
    job, folder = app.add_job(), trained("sft_lora")
    told(pod, folder, **app.environ(job))
    return job, folder


def test_the_database_also_knows_what_became_of_the_row(published, app, pod, hub):
    job, folder = published
    history = recalled(pod, folder, **app.environ(job))
    assert (history.source, history.where) == ("database", app.url)
    assert sorted(names(history)) == sorted([*PUBLISHED, "status_changed"])
    [change] = [event for event in history.events if event["event"] == "status_changed"]
    assert (change["source"], change["from"], change["to"]) == ("trigger", "running", "completed")
    times = [event["time"] for event in history.events]
    assert times == sorted(times)


def test_the_volume_is_asked_where_that_is_wanted(published, app, pod):
    job, folder = published
    history = recalled(pod, folder, local=True, **app.environ(job))
    assert (history.source, names(history)) == ("disk", PUBLISHED)


@pytest.mark.parametrize("fault", [Fault("status", status=503), Fault("status", status=403), Fault("reset")])
def test_a_database_that_cannot_be_asked_leaves_what_the_volume_knows(fault, published, app, pod):
    job, folder = published
    app.rest.faults.add(fault)
    with capture_logs() as said:
        history = recalled(pod, folder, **app.environ(job))
    assert fault.fired
    assert (history.source, names(history)) == ("disk", PUBLISHED)
    assert said[-1]["event"] == "showing what this volume knows"


def test_a_database_without_a_trail_leaves_what_the_volume_knows(legacy_app, pod, hub, trained):
    job, folder = legacy_app.add_job(), trained("sft_lora")
    told(pod, folder, **legacy_app.environ(job))
    history = recalled(pod, folder, **legacy_app.environ(job))
    assert (history.source, names(history)) == ("disk", PUBLISHED)


def test_another_jobs_events_are_not_shown(published, app, pod):
    _, folder = published
    other = app.add_job()
    assert recalled(pod, folder, **app.environ(other)).events == []


def test_without_a_job_every_job_of_the_volume_is_shown_in_the_order_of_time(pod, tmp_path):
    times = iter(["2026-01-01T00:00:01", "2026-01-01T00:00:03", "2026-01-01T00:00:02"])
    first, second = (Journal(pod.state_dir / name, now=lambda: next(times)) for name in ("one", "two"))
    first.note("started")
    first.note("failed", because="no model")
    second.note("started")
    history = recalled(pod, tmp_path)
    assert [(event["job"], event["event"]) for event in history.events] == [
        ("one", "started"),
        ("two", "started"),
        ("one", "failed"),
    ]


def test_only_the_last_ones_are_shown(published, app, pod):
    job, folder = published
    assert names(recalled(pod, folder, last=2, local=True, **app.environ(job))) == ["verified", "recorded"]
    assert len(recalled(pod, folder, last=2, **app.environ(job)).events) == 2


def test_damaged_lines_are_passed_over(published, app, pod):
    job, folder = published
    path = pod.state_dir / job.id / "audit.jsonl"
    path.write_bytes(b'{"event": "cut\n' + path.read_bytes() + b'\xff\n[]\n{}\n{"event": "ver')
    assert names(recalled(pod, folder, local=True, **app.environ(job))) == PUBLISHED


def test_a_person_reads_one_line_an_event(published, app, pod, hub, capsys):
    job, folder = published
    show(recalled(pod, folder, **app.environ(job)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PUBLISHED) + 1
    assert lines[0][19:] == f"  pod  started           output_dir {folder}"
    assert [line for line in lines if line.endswith(f"  running → completed {hub.endpoint}/ada/model")]


def test_a_reason_of_many_lines_stays_one_line(pod, tmp_path, capsys):
    Journal(pod.state_dir / "one").note("failed", because="no\n\tmodel\r\n\x1b[31mhere")
    show(recalled(pod, tmp_path))
    out = capsys.readouterr().out
    assert out.endswith("  pod  failed  because no model [31mhere\n")
    assert out.count("\n") == 1


def test_nothing_known_is_said(pod, tmp_path, capsys):
    show(recalled(pod, tmp_path))
    assert capsys.readouterr().out == f"Nothing is known in {pod.state_dir}.\n"


def test_the_command_prints_one_object(published, app, pod):
    job, folder = published
    process = pod.command(folder, "history", "--json", **app.environ(job))
    out, _ = process.communicate(timeout=60)
    answer = json.loads(out)
    assert (process.returncode, answer["source"], answer["error"]) == (0, "database", None)
    assert [event["event"] for event in answer["events"]].count("verified") == 1


def test_ten_thousand_events_are_all_there(app, pod, tmp_path):
    job = app.add_job()
    app.sql(
        "insert into model_upload_events (job_id, event_key, event) "
        "select %s, 'k' || n, 'started' from generate_series(1, 10000) n",
        job.id,
    )
    path = pod.state_dir / job.id / "audit.jsonl"
    path.parent.mkdir(parents=True)
    line = '{"time": "2026-01-01T00:00:00", "key": "k%d", "event": "started"}\n'
    path.write_text("".join(line % number for number in range(10_000)))
    assert len(recalled(pod, tmp_path, last=10_000, local=True, **app.environ(job)).events) == 10_000
    assert len(recalled(pod, tmp_path, last=10_000, **app.environ(job)).events) == 10_000
    assert [request.path for request in app.rest.requests] == [EVENTS] * 10


def test_a_rollback_is_told_as_what_it_did(pod, tmp_path, capsys):
    facts = {"repo_id": "ada/model", "commit": "c" * 40, "rolled_back_to": "d" * 40, "actor": "grace"}
    Journal(pod.state_dir / "one").note("rolled_back", **facts)
    show(recalled(pod, tmp_path))
    out = capsys.readouterr().out
    assert (
        out[19:]
        == "  pod  rolled_back  ada/model, cccccccccccc, the files of dddddddddddd again, actor grace\n"
    )


def test_a_rollback_reads_the_same_from_the_database(app, pod, tmp_path, capsys):
    job, journal = app.add_job(), Journal(pod.state_dir / "one")
    journal.note("rolled_back", repo_id="ada/model", commit="c" * 40, rolled_back_to="d" * 40)
    store = SupabaseStore(load(pod.environ(tmp_path, **app.environ(job))).job_database, job.id, Patience(9))
    assert store.report(journal.untold)
    store.close()
    show(recalled(pod, tmp_path, **app.environ(job)))
    assert "rolled_back  ada/model, cccccccccccc, the files of dddddddddddd again" in capsys.readouterr().out


def test_what_is_not_known_of_an_event_is_not_shown(pod, tmp_path, capsys):
    Journal(pod.state_dir / "one").note("recorded", status="failed", model_url=None)
    show(recalled(pod, tmp_path))
    assert capsys.readouterr().out.endswith("  recorded  status failed\n")


def test_of_a_long_trail_only_its_end_is_read(pod, tmp_path, monkeypatch):
    path = pod.state_dir / "one" / "audit.jsonl"
    path.parent.mkdir(parents=True)
    line = '{"time": "2026-01-01T00:00:00", "key": "%05d", "event": "started"}\n'
    path.write_text("".join(line % number for number in range(10_000)))
    parsed = []
    parse_json = glance.parse_json
    monkeypatch.setattr(glance, "parse_json", lambda line: parsed.append(line) or parse_json(line))
    assert [event["key"] for event in recalled(pod, tmp_path, last=3).events] == ["09997", "09998", "09999"]
    assert len(parsed) < 10


def test_the_volumes_history_needs_no_slow_library(pod, tmp_path):
    Journal(pod.state_dir / "one").note("started")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | pod.environ(tmp_path)
    command = [sys.executable, "-X", "importtime", "-m", "agent", "history"]
    found = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert not imported & {"huggingface_hub", "hf_xet", "supabase", "tenacity", "numpy"}
    assert "started" in found.stdout


def test_a_database_that_answers_with_few_rows_at_once_is_asked_for_all(published, app, pod, monkeypatch):
    """A hosted project shows a thousand."""
    job, folder = published
    whole = recalled(pod, folder, **app.environ(job)).events
    monkeypatch.setattr("agent.jobs.connection.ROWS_AT_ONCE", 2)
    asked = len(app.rest.requests)
    assert recalled(pod, folder, **app.environ(job)).events == whole
    assert len(app.rest.requests) - asked == len(whole) // 2 + 1
    last = recalled(pod, folder, last=3, **app.environ(job)).events
    assert (len(last), last[-1]) == (3, whole[-1])


def test_jobs_without_a_name_are_told_apart(pod, tmp_path, capsys):
    for folder in ("unnamed-0123456789ab", "unnamed-ba9876543210", "repo-00ff00ff00ff"):
        Journal(pod.state_dir / folder).note("started")
    show(recalled(pod, tmp_path))
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {
        "01234567", "ba987654", "00ff00ff",
    }  # fmt: skip
