"""Spans without a network: what is set up by which variables, and that no tracer can change a finalize."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from agent import log
from agent.errors import ArtifactError, HubUnreachableError, Interrupted
from agent.outcome import Outcome
from agent.telemetry import tracing
from agent.telemetry.spans import traced
from agent.telemetry.tracing import Tracing, secrets_in, set_up

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("OTEL_", "TRACE"))]:
        monkeypatch.delenv(name)
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def processors(made):
    return [delivery.__self__ for delivery in made.deliveries]


def exporters(made):
    """The exporters that spans go to; afterwards they are closed."""
    found = [type(one.span_exporter).__name__ for one in processors(made)]
    made.deliver(5)
    return found


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({ENDPOINT: "http://127.0.0.1:9"}, ["OTLPSpanExporter"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, ["OTLPSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": "console"}, ["ConsoleSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": " console , otlp,"}, ["ConsoleSpanExporter", "OTLPSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, ["OTLPSpanExporter"]),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            ["OTLPSpanExporter"],
        ),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "false"}, ["ConsoleSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": " ", ENDPOINT: "http://127.0.0.1:9"}, ["OTLPSpanExporter"]),
    ],
)
def test_the_variables_say_where_spans_go(environ, names):
    assert exporters(set_up(environ)) == names


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: " "},
        {"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": " True ", "OTEL_TRACES_EXPORTER": "console"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"},
        {"TRACEPARENT": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    ],
)
def test_nobody_asked_for_spans_and_nothing_is_said_of_them(environ):
    with capture_logs() as said:
        assert set_up(environ) is None
    assert said == []


@pytest.mark.parametrize(
    ("environ", "because"),
    [
        ({"OTEL_TRACES_EXPORTER": "console,jaeger"}, "no exporter jaeger is installed"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        (
            {ENDPOINT: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
             "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "no exporter http/json",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told_once_and_traces_nothing(environ, because):
    before = threading.active_count()
    with capture_logs() as said:
        assert set_up(environ) is None
    [line] = said
    assert (line["log_level"], line["event"]) == ("warning", "no spans are sent")
    assert because in line["because"]
    assert threading.active_count() == before


def test_a_setting_that_the_sdk_refuses_costs_spans_only(monkeypatch):
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    with capture_logs() as said:
        assert set_up({"OTEL_TRACES_EXPORTER": "console"}) is None
    assert [one["event"] for one in said] == ["no spans are sent"]


def test_an_sdk_that_is_missing_is_told_once_and_is_no_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with capture_logs() as said:
        assert set_up({"OTEL_TRACES_EXPORTER": "console"}) is None
    assert [one["log_level"] for one in said] == ["info"]
    assert "not installed" in said[0]["event"]


def test_retries_of_an_exporter_are_noise_unless_somebody_looks_for_them(monkeypatch):
    logger, root = logging.getLogger("opentelemetry"), logging.getLogger()
    root.setLevel(logging.INFO)
    set_up({"OTEL_TRACES_EXPORTER": "console"}).deliver(5)
    assert (logger.isEnabledFor(logging.WARNING), logger.isEnabledFor(logging.ERROR)) == (False, True)
    logger.setLevel(logging.NOTSET)
    root.setLevel(logging.DEBUG)
    set_up({"OTEL_TRACES_EXPORTER": "console"}).deliver(5)
    assert logger.isEnabledFor(logging.DEBUG)


@pytest.mark.parametrize(
    ("environ", "secrets"),
    [
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=abcdef12,x-team=blue"}, {"abcdef12", "blue"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key= abc=def1= "}, {"abc=def1="}),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20dGVhbTprZXk%3D"},
            {"Basic%20dGVhbTprZXk%3D", "Basic dGVhbTprZXk=", "dGVhbTprZXk="},
        ),
        ({ENDPOINT: "https://team:p4ssw0rd@otel.example.com/v1"}, {"p4ssw0rd"}),
        ({ENDPOINT: "https://otel.example.com/0123456789abcdef0123/v1"}, {"0123456789abcdef0123"}),
        ({ENDPOINT: "https://otel.example.com:4318"}, set()),
        ({}, set()),
    ],
)
def test_keys_in_headers_and_addresses_are_secrets(environ, secrets):
    assert secrets_in(environ) - {""} == secrets


def test_they_are_hidden_before_anything_can_be_said():
    set_up({"OTEL_TRACES_EXPORTER": "nobody", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=abcdef12"})
    assert log.redact("api-key abcdef12") == f"api-key {log.HIDDEN}"


def parent(environ):
    """The span that a finalize with these variables belongs below."""
    made = set_up({"OTEL_TRACES_EXPORTER": "console", **environ})
    made.deliver(5)
    return trace.get_current_span(made.parent).get_span_context()


def test_whoever_started_us_comes_before_a_span_that_is_open_here():
    here = trace.SpanContext(1, 2, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(here)):
        assert parent({}) == here
        told = parent({"TRACEPARENT": f"00-{'0' * 31}3-{'0' * 15}4-01", "TRACESTATE": "vendor=abc"})
    assert (told.trace_id, told.span_id, dict(told.trace_state)) == (3, 4, {"vendor": "abc"})


class Memory:
    """A tracing whose spans stay here."""

    def __init__(self, *, deliveries=(), processor=None):
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor or SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider.get_tracer("t"), Context(), deliveries)

    @property
    def spans(self):
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def made(monkeypatch):
    """Let finalizes be traced by what is given here."""

    def use(memory):
        monkeypatch.setattr(tracing, "set_up", lambda environ: memory.tracing)
        return memory

    return use


def test_a_step_of_a_library_call_below_has_the_step_as_its_parent(made):
    """So do the spans that an instrumented HTTP client makes."""
    memory, outcome = made(Memory()), Outcome()
    with traced(outcome), outcome.step("content"):
        memory.tracing.tracer.start_span("PUT").end()
    assert memory.spans["PUT"].parent.span_id == memory.spans["content"].context.span_id
    assert memory.spans["content"].parent.span_id == memory.spans["finalize"].context.span_id


def test_an_error_is_told_by_its_code_and_no_word_of_it(made):
    memory, outcome = made(Memory()), Outcome()
    with pytest.raises(ArtifactError), traced(outcome), outcome.step("artifact"):
        raise ArtifactError("secret words", hint="h")
    for name in ("artifact", "finalize"):
        span = memory.spans[name]
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "artifact")
        assert span.attributes["error.type"] == "artifact"
        assert (span.events, "secret" in span.to_json()) == ((), False)


def test_a_signal_is_told_as_an_interruption_that_a_rerun_continues(made):
    memory = made(Memory())
    with pytest.raises(Interrupted), traced(Outcome()):
        raise Interrupted(signal.SIGTERM)
    told = memory.spans["finalize"].attributes
    assert (told["error.type"], told["training_agent.exit_code"]) == ("interrupted", 143)
    assert told["training_agent.result"] == "pending"


def test_names_lose_their_secrets(made):
    memory = made(Memory())
    log.hide(["s3cret-method"])
    with traced(Outcome(training={"method": "s3cret-method"})):
        pass
    assert memory.spans["finalize"].attributes["training_agent.method"] == log.HIDDEN


class Broken(SpanProcessor):
    def __init__(self, *fails):
        self._fails = fails

    def on_start(self, span, parent_context=None):
        if "start" in self._fails:
            raise RuntimeError("on_start")

    def on_end(self, span):
        if "end" in self._fails:
            raise RuntimeError("on_end")


@pytest.mark.parametrize("fails", [("start",), ("end",), ("start", "end")])
def test_a_processor_that_fails_costs_spans_only(fails, made):
    def deliver():
        raise RuntimeError("deliver")

    made(Memory(processor=Broken(*fails), deliveries=(deliver,)))
    outcome, done = Outcome(), []
    with capture_logs() as said, traced(outcome), outcome.step("content"):
        done.append(1)
    assert (done, list(outcome.steps)) == ([1], ["content"])
    assert {one["log_level"] for one in said} == {"debug"}
    with pytest.raises(ArtifactError), traced(outcome), outcome.step("content"):
        raise ArtifactError("m", hint="h")


def waited(outcome, error=None):
    """How long a delivery that hangs was waited for, as the log says."""
    with capture_logs() as said:
        try:
            with traced(outcome):
                if error:
                    raise error
        except (Interrupted, ArtifactError):
            pass
    return [one["waited_s"] for one in said if one["event"] == "not all spans were sent"]


def test_a_delivery_that_hangs_is_left_behind(made, monkeypatch):
    over, before = threading.Event(), threading.enumerate()
    made(Memory(deliveries=(over.wait,)))
    monkeypatch.setattr("agent.telemetry.spans._DELIVERY_S", 0.05)
    monkeypatch.setattr("agent.telemetry.spans._DELIVERY_AFTER_SIGNAL_S", 0.01)
    try:
        assert waited(Outcome()) == [0.05]
        left = [one for one in threading.enumerate() if one not in before]
        assert [one.daemon for one in left] == [True], "the end of the process does not wait either"
        assert waited(Outcome(), ArtifactError("m", hint="h")) == [0.05]
        assert waited(Outcome(), Interrupted(signal.SIGTERM)) == [0.01]
    finally:
        over.set()


def test_deliveries_do_not_wait_for_each_other(made):
    sent, got = threading.Event(), []
    made(Memory(deliveries=(lambda: got.append(sent.wait(2.0)), sent.set)))
    assert waited(Outcome()) == []
    assert got == [True]


def test_what_is_given_to_deliveries_is_seconds_for_all_of_them(made):
    over = threading.Event()
    memory = Memory(deliveries=(over.wait,) * 3)
    clock = iter([100.0, 100.0, 100.2, 100.2])
    asked = []

    class Recorded(threading.Thread):
        def join(self, timeout=None):
            asked.append(timeout)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracing.time, "monotonic", lambda: next(clock))
        patched.setattr(tracing.threading, "Thread", Recorded)
        memory.tracing.deliver(0.1)
    over.set()
    assert asked == [pytest.approx(0.1), 0.0, 0.0]


class Signalled(Tracing):
    def deliver(self, within_s):
        raise Interrupted(signal.SIGTERM)


def test_a_signal_while_spans_are_sent_does_not_undo_what_is_done(made):
    memory = made(Memory())
    memory.tracing = Signalled(memory.tracing.tracer, Context(), ())
    with capture_logs() as said, traced(Outcome()):
        pass
    assert [one["because"] for one in said] == ["stopped by SIGTERM"]


def test_a_signal_while_spans_of_a_failure_are_sent_is_obeyed(made):
    """Otherwise `run` would go on trying."""
    memory = made(Memory())
    memory.tracing = Signalled(memory.tracing.tracer, Context(), ())
    with pytest.raises(Interrupted), traced(Outcome()):
        raise HubUnreachableError("m", hint="h")


def test_a_machine_without_threads_left_costs_spans_only(made, monkeypatch):
    made(Memory(deliveries=(print,)))

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(tracing.threading.Thread, "start", refuse)
    with capture_logs() as said, traced(Outcome()):
        pass
    assert [one["event"] for one in said] == ["a span was lost"]
