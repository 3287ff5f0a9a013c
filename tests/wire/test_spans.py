"""Spans of real finalizes, as a collector gets them; and what a collector that fails is not able to do."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections import Counter

import pytest
from structlog.testing import capture_logs

from agent import __version__, log
from agent.config import load
from agent.errors import HubAuthError, HubUnreachableError, JobRefusedError
from agent.outcome import Outcome
from agent.retry import Patience
from agent.run import Run, RunOutcome
from agent.sandbox.loopback import Fault
from tests.conftest import FIXTURES, ROOT, TOKEN
from tests.wire.otlp import Collector

JOB = "7d9f5f5c-1111-4a3b-9c5e-0123456789ab"
MODEL = f"save={FIXTURES / 'sft_lora'}"
KEY = "hcaik_01h0fGreatSecretOfTheTeam"
PARENT_TRACE, PARENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
THEIRS = """
import sys
sys.modules["matplotlib"] = None
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider(resource=Resource({{"service.name": "theirs"}}), shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint={endpoint!r})))
trace.set_tracer_provider(provider)
"""


@pytest.fixture
def collector():
    with Collector() as running:
        yield running


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(log, "_known", set())
    for name in [name for name in os.environ if name.startswith(("OTEL_", "TRACE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(
        "agent.telemetry.spans._DELIVERY_S", 60.0
    )  # a busy machine is no collector that hangs
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)
    for sender in senders():
        sender.join()


def senders():
    """The threads that exporters send from."""
    return [one for one in threading.enumerate() if one.name == "OtelBatchSpanRecordProcessor"]


@pytest.fixture
def traced(pod, collector, monkeypatch):
    """A finalize in this process, with an endpoint in its environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    return pod.finalize


def run(pod, folder, *args, **more):
    process = pod.command(folder, *args, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_spans_are_the_finalize_and_each_of_its_steps(traced, collector, trained):
    outcome = traced(trained("sft_full"), JOB_ID=JOB)
    whole, steps = collector.whole, collector.steps
    assert (whole.name, whole.parent, whole.error) == ("finalize", "", None)
    assert {step.name for step in steps} == outcome.steps.keys()
    assert Counter(step.name for step in steps)["row"] == 2
    assert [step.name for step in steps if step.error] == []
    for step in steps:
        assert whole.begun_ns <= step.begun_ns <= step.ended_ns <= whole.ended_ns
        assert step.trace == whole.trace
        assert step.attributes == {}
    for name, seconds in outcome.steps.items():
        assert (
            sum(step.ended_ns - step.begun_ns for step in steps if step.name == name) / 1e9 <= seconds + 0.002
        )
    assert whole.attributes == {
        "training_agent.job_id": JOB,
        "training_agent.repo_id": "ada/model",
        "training_agent.commit": outcome.commit,
        "training_agent.method": "sft",
        "training_agent.result": "completed",
        "training_agent.exit_code": 0,
        "training_agent.published": True,
        "training_agent.files": outcome.files,
        "training_agent.model_bytes": outcome.size_bytes,
        "training_agent.uploaded_bytes": outcome.uploaded_bytes,
        "training_agent.retries": 0,
    }
    assert (whole.resource["service.name"], whole.resource["service.version"]) == (
        "training-agent",
        __version__,
    )
    assert outcome.watchers == []


def test_a_failure_is_told_by_its_code_on_the_whole_and_on_its_step(traced, collector, hub, trained):
    fault = hub.faults.add(Fault("status", match="POST /api/models/ada/model/preupload", status=403))
    outcome = Outcome()
    with pytest.raises(HubAuthError):
        traced(trained("sft_full"), outcome)
    assert fault.fired == 1
    whole = collector.whole
    assert whole.error == whole.attributes["error.type"] == "hub-auth"
    assert [(step.name, step.error) for step in collector.steps if step.error] == [("content", "hub-auth")]
    assert (whole.attributes["training_agent.result"], whole.attributes["training_agent.exit_code"]) == (
        "failed",
        12,
    )
    assert "training_agent.commit" not in whole.attributes
    assert outcome.watchers == []


def test_what_a_rerun_mends_is_pending_and_its_retries_are_told(traced, collector, hub, trained):
    hub.faults.add(fault := Fault("status", match="GET /api/models/ada/model/commits", status=503))
    with pytest.raises(HubUnreachableError):
        traced(trained("sft_full"))
    told = collector.whole.attributes
    assert (told["training_agent.result"], told["training_agent.exit_code"]) == ("pending", 75)
    assert told["training_agent.retries"] == fault.fired - 1 > 0


def test_a_cancelled_job_is_told_as_cancelled(traced, collector, app, trained):
    job = app.add_job(status="cancelled")
    with pytest.raises(JobRefusedError):
        traced(trained("sft_full"), **app.environ(job))
    assert collector.whole.attributes["training_agent.result"] == "cancelled"


def test_a_bug_is_told_as_a_bug(traced, collector, trained, monkeypatch):
    def broken(self):
        raise ValueError(f"a secret: {TOKEN}")

    monkeypatch.setattr("agent.publisher.Publisher.commit", broken)
    with pytest.raises(ValueError, match="secret"):
        traced(trained("sft_full"))
    assert (collector.whole.error, collector.whole.attributes["training_agent.exit_code"]) == ("bug", 70)
    assert TOKEN.encode() not in collector.raw


@pytest.mark.parametrize(
    ("traceparent", "trace", "parent"),
    [
        (f"00-{PARENT_TRACE}-{PARENT_SPAN}-01", PARENT_TRACE, PARENT_SPAN),
        (f"00-{'0' * 32}-{PARENT_SPAN}-01", None, ""),
        ("nonsense", None, ""),
    ],
)
def test_whoever_started_us_is_the_parent(
    traceparent, trace, parent, traced, collector, trained, monkeypatch
):
    monkeypatch.setenv("TRACEPARENT", traceparent)
    traced(trained("sft_full"))
    assert collector.whole.parent == parent
    assert trace in {None, collector.whole.trace}
    assert len({one.trace for one in collector.spans}) == 1


def test_a_parent_that_is_not_recorded_is_not_recorded_here(traced, collector, trained, monkeypatch):
    monkeypatch.setenv("TRACEPARENT", f"00-{PARENT_TRACE}-{PARENT_SPAN}-00")
    assert traced(trained("sft_full")).published
    assert collector.requests == []


def test_a_dry_run_leaves_no_trace(pod, collector, trained):
    args = ("finalize", "--dry-run", "--json")
    assert run(pod, trained("sft_full"), *args, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)[0] == 0
    assert collector.requests == []


def test_each_finalize_is_a_trace_of_its_own(traced, collector, trained):
    folder = trained("sft_full")
    traced(folder, JOB_ID=JOB)
    collector.spans.clear()
    outcome = traced(folder, JOB_ID=JOB)
    assert {step.name for step in collector.steps} == outcome.steps.keys()
    assert "content" not in outcome.steps


def test_under_run_each_attempt_is_a_trace_and_the_training_is_in_none(
    pod, collector, hub, tmp_path, monkeypatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setattr("agent.run.FIRST_PAUSE_S", 0.01)
    patience = {"clock": pod.clock, "sleep": pod.clock.sleep, "jitter": lambda: 0.0}
    monkeypatch.setattr(Run, "patience", lambda _: Patience(2.0, **patience))
    fault = hub.faults.add(Fault("status", match="GET /api/models/ada/model/commits", times=6, status=503))
    environ = pod.environ(tmp_path / "out")
    command = [sys.executable, str(ROOT / "tests" / "trainer.py"), str(tmp_path / "diary"), MODEL]
    with (tmp_path / "printed").open("ab") as out:
        Run(load(environ), RunOutcome(), command, environ=environ, stdout=out.fileno()).tell()
    assert fault.fired == 6
    told = [one.attributes for one in collector.spans if one.name == "finalize"]
    assert [one["training_agent.result"] for one in told] == ["pending", "completed"]
    assert [one["training_agent.retries"] for one in told] == [3, 5], "those of the run so far"
    assert len({one.trace for one in collector.spans}) == 2


def test_the_service_is_named_as_opentelemetry_wants_it(traced, collector, trained, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=trainers,deployment.environment=lab")
    traced(trained("sft_full"), JOB_ID=JOB)
    assert collector.whole.resource["service.name"] == "trainers"
    assert collector.whole.resource["deployment.environment"] == "lab"
    collector.spans.clear()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pods")
    traced(trained("sft_full", "again"), JOB_ID=JOB)
    assert collector.whole.resource["service.name"] == "pods"


def test_headers_reach_the_collector(traced, collector, trained, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-api-key={KEY}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    traced(trained("sft_full"))
    assert {one.user for one in collector.requests} == {KEY}
    assert collector.whole


@pytest.mark.parametrize("misfortune", ["hang", "500", "503", "refused", "reset"])
def test_a_collector_that_fails_changes_nothing(misfortune, traced, collector, trained, monkeypatch, caplog):
    monkeypatch.setattr("agent.telemetry.spans._DELIVERY_S", 0.3)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    faults = {
        "hang": Fault("hang"), "500": Fault("status", status=500), "503": Fault("status", status=503),
        "reset": Fault("reset"),
    }  # fmt: skip
    if fault := faults.get(misfortune):
        collector.faults.add(fault)
    else:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.closed_endpoint)
    with capture_logs() as said:
        outcome = traced(trained("sft_full"))
    assert (outcome.result, outcome.published) == ("completed", True)
    assert collector.spans == []
    assert fault is None or fault.fired
    late = [one for one in said if one["event"] == "not all spans were sent"]
    failed = [one.getMessage() for one in caplog.records if one.name.startswith("opentelemetry")]
    if misfortune == "500":
        assert failed == ["Failed to export spans batch code: 500, reason: Internal Server Error"]
        assert late == []
    else:
        assert [one["waited_s"] for one in late] == [0.3]
        assert failed == []
        assert senders(), "it is left behind"


def test_the_answer_is_the_only_thing_on_stdout_whatever_the_exporters_do(pod, collector, trained):
    """`console` prints to stdout, the first of the two hangs, and its key is in no log."""
    fault = collector.faults.add(Fault("hang"))
    code, out, err = run(
        pod,
        trained("sft_full"),
        OTEL_TRACES_EXPORTER="otlp,console",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{KEY}",
        AGENT_LOG_LEVEL="debug",
    )
    assert fault.fired
    assert (code, json.loads(out)["result"]) == (0, "completed")
    assert out.count("\n") == 1
    assert '"name": "finalize"' in err
    assert '"name": "content"' in err
    assert "not all spans were sent" in err
    assert KEY not in err


def test_a_failure_of_the_collector_is_told_without_its_key_or_a_traceback(pod, collector, trained):
    collector.faults.add(Fault("status", status=401, body=f"<p>{KEY} is wrong</p>"))
    endpoint = collector.endpoint.replace("http://", f"http://team:{KEY}@")
    code, out, err = run(pod, trained("sft_full"), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert (code, json.loads(out)["result"]) == (0, "completed")
    assert "Failed to export spans batch code: 401" in err
    assert KEY not in err
    assert "Traceback" not in err


def test_a_signal_is_obeyed_although_the_collector_hangs(pod, collector, hub, trained):
    hung = hub.faults.add(Fault("hang", match="POST /v1/xorbs"))
    collector.faults.add(Fault("hang"))
    process = pod.command(trained("sft_full"), OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    while not hung.fired:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["error"]["code"]) == (143, "interrupted"), err
    [late] = [json.loads(line) for line in err.splitlines() if "not all spans" in line]
    assert late["waited_s"] < 1


@pytest.mark.parametrize("endpoint", [True, False])
def test_a_provider_that_the_process_has_is_used_and_nothing_beside_it(
    endpoint, pod, collector, trained, tmp_path
):
    """As under opentelemetry-instrument, which sets one before anything else is imported."""
    (tmp_path / "sitecustomize.py").write_text(THEIRS.format(endpoint=f"{collector.endpoint}/v1/traces"))
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint} if endpoint else {}
    code, out, err = run(pod, trained("sft_full"), PYTHONPATH=f"{tmp_path}:{ROOT}", **more)
    assert code == 0, err
    assert {step.name for step in collector.steps} == json.loads(out)["steps"].keys()
    assert {one.resource["service.name"] for one in collector.spans} == {"theirs"}


@pytest.mark.parametrize(
    ("more", "loaded"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
)
def test_nothing_of_opentelemetry_is_loaded_unless_it_is_set_up(more, loaded, pod, trained):
    code, _, err = run(pod, trained("sft_full"), PYTHONPROFILEIMPORTTIME="1", **more)
    assert code == 0
    modules = {
        line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")
    }
    assert "huggingface_hub" in modules
    assert ("opentelemetry" in {name.partition(".")[0] for name in modules}) == loaded
