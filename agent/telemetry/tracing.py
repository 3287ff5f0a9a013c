"""Where the spans of a finalize go: to what OpenTelemetry's own variables name, else nowhere.

Nothing of OpenTelemetry is imported before it is known that somebody set it up. Exporters come from its SDK's
entry points and read their settings themselves. Source: the SDK's specification of environment variables.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from agent import __version__, log
from agent.notify_config import secrets_in as secrets_in_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer, TracerProvider

SERVICE = "training-agent"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}  # what is asked for → entry point
_GROUP = "opentelemetry_traces_exporter"


@dataclass(frozen=True)
class Tracing:
    """What makes spans, below which span they belong, and what has to be called for them to arrive."""

    tracer: Tracer
    parent: Context
    deliveries: tuple[Callable[[], object], ...]

    def deliver(self, within_s: float) -> None:
        """Let the exporters send what they hold, for a moment; one that hangs is left behind."""
        over = time.monotonic() + within_s
        threads = [threading.Thread(target=_quietly(send), daemon=True) for send in self.deliveries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(over - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in threads):
            log.get_logger().warning("not all spans were sent", waited_s=within_s)


def set_up(environ: Mapping[str, str]) -> Tracing | None:
    """Make what traces one finalize; None where nobody set it up, or it cannot be had: the log says so.

    Args:
        environ: our environment; the SDK itself reads the process's.
    """
    if _given(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return None
    log.hide(secrets_in(environ))
    asked = _exporters_asked_for(environ)
    try:
        if theirs := _provider_of_the_process():
            return _around(theirs, environ)
        return _to(asked, environ) if asked else None
    except ModuleNotFoundError as error:
        log.get_logger().info("no spans are sent: OpenTelemetry's SDK is not installed", because=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a setting or an exporter does, it costs spans only
        log.get_logger().warning("no spans are sent", because=f"{type(error).__name__}: {error}")
    return None


def secrets_in(environ: Mapping[str, str]) -> set[str]:
    """What must not be shown of OpenTelemetry's variables: the values of its headers, keys in an address."""
    found: set[str] = set()
    for name in _HEADERS:
        for pair in environ.get(name, "").split(","):
            value = pair.partition("=")[2].strip()
            found |= {value, unquote(value), unquote(value).rpartition(" ")[2]}  # after "Bearer", "Basic"
    for name in _ENDPOINTS:
        url = environ.get(name, "")
        found |= secrets_in_urls(url) - {url}
    return found


@contextmanager
def harmless() -> Iterator[None]:
    """Let whatever goes wrong with spans cost spans only."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - exporters and processors are anybody's
        log.get_logger().debug("a span was lost", because=f"{type(error).__name__}: {error}")


def _quietly(send: Callable[[], object]) -> Callable[[], None]:
    def sent() -> None:
        with harmless():
            send()

    return sent


def _given(environ: Mapping[str, str], *names: str) -> str:
    return next((value for name in names if (value := environ.get(name, "").strip())), "")


def _exporters_asked_for(environ: Mapping[str, str]) -> list[str]:
    """The names in OTEL_TRACES_EXPORTER; without it an endpoint is reason enough for OTLP."""
    default = "otlp" if _given(environ, *_ENDPOINTS) else "none"
    names = (_given(environ, "OTEL_TRACES_EXPORTER") or default).split(",")
    return [name for one in names if (name := one.strip()) and name != "none"]


def _provider_of_the_process() -> TracerProvider | None:
    """The tracer provider that somebody set before us, as opentelemetry-instrument does."""
    api: Any = sys.modules.get("opentelemetry.trace")
    provider = api.get_tracer_provider() if api else None
    return None if api is None or isinstance(provider, api.ProxyTracerProvider) else provider


def _around(theirs: TracerProvider, environ: Mapping[str, str]) -> Tracing:
    flush = getattr(theirs, "force_flush", None)
    return Tracing(theirs.get_tracer(SERVICE, __version__), _parent(environ), (flush,) if flush else ())


def _to(names: list[str], environ: Mapping[str, str]) -> Tracing:
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _quieten()
    exporters = [_exporter(name, environ)() for name in names]
    named = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, SERVICE)
    resource = Resource.create({SERVICE_NAME: named, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    processors = [BatchSpanProcessor(exporter) for exporter in exporters]
    for processor in processors:
        provider.add_span_processor(processor)
    # Each by itself: one that hangs does not keep the others from sending.
    deliveries = tuple(processor.shutdown for processor in processors)
    return Tracing(provider.get_tracer(SERVICE, __version__), _parent(environ), deliveries)


def _quieten() -> None:
    """Let the SDK tell what was not sent, which it does as an error; its retries are noise."""
    if logging.getLogger().level > logging.DEBUG:
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)


def _exporter(name: str, environ: Mapping[str, str]) -> Callable[[], SpanExporter]:
    """The exporter of that name; `otlp` is the protocol asked for, else gRPC as in the SDK, else HTTP.

    Raises:
        LookupError: no installed package has it.
    """
    from importlib.metadata import entry_points

    installed = entry_points(group=_GROUP)
    protocol = _given(environ, *_PROTOCOLS)
    wanted = [name]
    if name == "otlp":
        wanted = [_OTLP.get(protocol, protocol)] if protocol else [*_OTLP.values()]
    found = [installed[one] for one in wanted if one in installed.names]
    if not found:
        raise LookupError(f"no exporter {' or '.join(wanted)} is installed; its package is missing")
    loaded: Callable[[], SpanExporter] = found[0].load()
    return loaded


def _parent(environ: Mapping[str, str]) -> Context:
    """The span of whoever started us: TRACEPARENT, as the W3C writes it."""
    from opentelemetry.context import get_current
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    told = {"traceparent": environ.get("TRACEPARENT", ""), "tracestate": environ.get("TRACESTATE", "")}
    return TraceContextTextMapPropagator().extract(told, get_current())
