"""No step waits for one that it does not need: each of these would hang if it did."""

from __future__ import annotations

import sys
import time

import pytest

from agent import presentation
from agent.beside import Beside
from agent.errors import HubUnreachableError
from agent.job import Job
from agent.sandbox.loopback import Fault

WEIGHTS = "adapter_model.safetensors"
JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"


def until(condition, what):
    over = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < over, what
        time.sleep(0.005)


def asked(hub, words):
    return lambda: any(words in f"{request.method} {request.path}" for request in hub.requests)


def test_the_hub_is_asked_while_the_row_is_read(pod, hub, trained, monkeypatch):
    look = Job.look

    def slowly(self):
        until(asked(hub, "GET /api/models/ada/model"), "the Hub was not asked")
        look(self)

    monkeypatch.setattr(Job, "look", slowly)
    assert pod.finalize(trained("sft_lora"), JOB_ID=JOB).published


def test_a_row_that_says_no_comes_before_a_hub_that_does_not_answer(pod, hub, trained, app):
    from tests.wire.test_job_row import told

    hub.faults.add(fault := Fault("reset"))
    job = app.add_job(status="cancelled")
    code, answer = told(pod, trained("sft_lora"), **app.environ(job))
    assert (code, answer["result"], answer["error"]["code"]) == (15, "cancelled", "job-refused")
    until(lambda: fault.fired, "the Hub was not asked")


def test_who_still_asks_when_the_story_is_over_asks_no_more(pod, hub, trained, app, monkeypatch):
    """Else a Hub that is down would be asked for a quarter of an hour by a job that was cancelled."""
    from tests.wire.test_job_row import told

    threads = []
    begin = Beside.__init__
    monkeypatch.setattr(Beside, "__init__", lambda self, call: threads.append(self) or begin(self, call))
    hub.faults.add(fault := Fault("status", match="GET /api/models", status=503, retry_after=1))
    job = app.add_job(status="cancelled")
    monkeypatch.setattr(pod.clock, "sleep", lambda _seconds: time.sleep(0.05))
    assert told(pod, trained("sft_lora"), **app.environ(job))[0] == 15
    threads[0]._thread.join(60)
    assert not threads[0]._thread.is_alive()
    assert fault.fired < 10


def test_what_the_hub_answered_is_told_in_its_place(pod, hub, trained):
    hub.faults.add(fault := Fault("status", match="GET /api/models", status=503))
    with pytest.raises(HubUnreachableError):
        pod.finalize(trained("sft_lora"), JOB_ID=JOB)
    assert fault.fired > 1
    assert pod.row(JOB)["status"] == "running"


def test_the_page_is_made_while_the_content_travels(pod, hub, trained, monkeypatch):
    ask = presentation.ask

    def slowly(*args):
        until(asked(hub, "POST /v1/shards"), "the content waited for the page")
        return ask(*args)

    monkeypatch.setattr(presentation, "ask", slowly)
    assert pod.finalize(trained("sft_lora"), JOB_ID=JOB).published


def test_a_page_that_cannot_be_made_is_no_commit(pod, hub, trained, monkeypatch):
    def fail(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr(presentation, "ask", fail)
    with pytest.raises(ZeroDivisionError):
        pod.finalize(trained("sft_lora"), JOB_ID=JOB)
    assert not asked(hub, "/commit/")()


def test_a_file_that_looks_like_one_that_was_sent_is_hashed_while_the_others_travel(
    pod, hub, trained, monkeypatch
):
    """Two LoRA models in one job: the first was published, the second is new beside it."""
    first = trained("sft_lora")
    assert pod.finalize(first, JOB_ID=JOB).published
    second = trained("dpo_lora", "second")
    extra = second / "first"
    extra.mkdir()
    for name in (WEIGHTS, "adapter_config.json"):
        (extra / name).write_bytes((first / name).read_bytes())
    hashing = sys.modules["agent.artifact.digest"]  # the room shows the function of this name
    before, read = len(hub.requests), hashing.sha256_of

    def slowly(file):
        travelling = lambda: any("xet-write-token" in one.path for one in hub.requests[before:])  # noqa: E731
        if file.path == f"first/{WEIGHTS}":
            until(travelling, "the others waited for it")
        return read(file)

    monkeypatch.setattr(hashing, "sha256_of", slowly)
    outcome = pod.finalize(second, JOB_ID="0b0b0b0b-1111-4a3b-9c5e-0123456789ab")
    assert outcome.published
    new = [path.stat().st_size for path in second.iterdir() if path.name in {WEIGHTS, "tokenizer.json"}]
    assert outcome.uploaded_bytes <= sum(new)
