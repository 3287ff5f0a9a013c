"""The spans of one finalize: one for the whole, a child for each step. They tell of it and change nothing."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.errors import EXIT_BUG, AgentError, Interrupted
from agent.log import get_logger, redact
from agent.telemetry import tracing
from agent.telemetry.tracing import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from agent.outcome import Outcome
    from agent.telemetry.tracing import Tracing

_ROOT = "finalize"
_DELIVERY_S = 3.0
_DELIVERY_AFTER_SIGNAL_S = 0.3  # of the two seconds that a signal leaves


@contextmanager
def traced(outcome: Outcome, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Trace one finalize, if OpenTelemetry is set up; nothing at all is done otherwise.

    Args:
        outcome: its account, of which the spans tell.
        environ: our environment.
    """
    made = tracing.set_up(environ)
    if made is None:
        yield
        return
    ended_by: BaseException | None = None
    spans = _Spans(made, outcome)
    watcher = spans.step
    outcome.watchers.append(watcher)
    try:
        with spans.whole():
            yield
    except BaseException as error:
        ended_by = error
        raise
    finally:
        outcome.watchers.remove(watcher)
        _deliver(made, ended_by)


def _deliver(made: Tracing, ended_by: BaseException | None) -> None:
    """Send what is left to send; a signal meanwhile ends the wait, and a finalize that is done stays done."""
    is_hurried = isinstance(ended_by, Interrupted)
    try:
        with harmless():
            made.deliver(_DELIVERY_AFTER_SIGNAL_S if is_hurried else _DELIVERY_S)
    except Interrupted as stop:
        if ended_by:
            raise
        get_logger().warning("not all spans were sent", because=str(stop))


class _Spans:
    def __init__(self, made: Tracing, outcome: Outcome) -> None:
        self._made, self._outcome = made, outcome

    @contextmanager
    def whole(self) -> Iterator[None]:
        with self._span(_ROOT, self._made.parent) as span:
            try:
                yield
            except BaseException as error:
                with harmless():
                    span.set_attributes(self._told(error))
                raise
            with harmless():
                span.set_attributes(self._told(None))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        with self._span(name, None):
            yield

    @contextmanager
    def _span(self, name: str, parent: Context | None) -> Iterator[Span]:
        """A span that is the current one; its errors are told by their code, never by their words."""
        from opentelemetry import trace

        span: Span = trace.INVALID_SPAN
        with harmless():
            span = self._made.tracer.start_span(name, parent)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except BaseException as error:
            with harmless():
                code, _ = _failure(error)
                span.set_attribute("error.type", code)
                span.set_status(trace.StatusCode.ERROR, code)
            raise
        finally:
            with harmless():
                span.end()

    def _told(self, error: BaseException | None) -> dict[str, str | bool | int]:
        """What the outcome says, as far as it is known."""
        outcome = self._outcome
        known = {
            "job_id": outcome.job_id,
            "repo_id": outcome.repo_id,
            "commit": outcome.commit,
            "method": outcome.training.get("method"),
            "result": outcome.result_of(error) if error else outcome.result,
        }
        told: dict[str, str | bool | int] = {
            name: redact(str(value)) for name, value in known.items() if value is not None
        }
        told |= {
            "exit_code": _failure(error)[1] if error else 0,
            "published": outcome.published,
            "files": outcome.files,
            "model_bytes": outcome.size_bytes,
            "uploaded_bytes": outcome.uploaded_bytes,
            "retries": outcome.retries.total(),
        }
        return {f"training_agent.{name}": value for name, value in told.items()}


def _failure(error: BaseException) -> tuple[str, int]:
    """Code and exit code of what ended a finalize."""
    if isinstance(error, AgentError | Interrupted):
        return error.code, error.exit_code
    return "bug", EXIT_BUG
