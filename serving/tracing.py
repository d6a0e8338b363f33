"""OpenTelemetry traces, where a collector is named: a span per request, store transaction and scoring.

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set and the extra `[otel]` is installed.
Attributes are route templates, methods, statuses and counts: no path, no id, nothing personal.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_MILLISECONDS = 2000

Attributes = Mapping[str, str | int | float | bool]

log = logging.getLogger("predictive_scoring.serving")
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def configure(process: str) -> bool:
    """Begin to send traces of this process, if the environment asks for it; whether it does.

    The exporter's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` and so on) apply."""
    global _provider, _tracer  # noqa: PLW0603 one tracer per process, as OpenTelemetry has it
    if not any(os.environ.get(name) for name in VARIABLES):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        # Traces are for looking at; a service that scores is worth more than one that refuses to start.
        log.error("traces are off: install predictive-scoring[otel]")  # noqa: TRY400 the traceback says no more
        return False
    from predictive_scoring import __version__

    about = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or "predictive-scoring",
        "service.version": __version__,
        "process.role": process,
    }
    _provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("predictive_scoring", __version__)
    return True


def close() -> None:
    """Send what is left, within two seconds; a collector that is away must not hold up the end."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.force_flush(FLUSH_MILLISECONDS)
        provider.shutdown()


class Unseen:
    """A span that nobody sees: traces are off."""

    def name(self, name: str) -> None:
        """Give the span its final name."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes; nothing personal."""


class Seen(Unseen):
    """A span under way."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))


_UNSEEN = Unseen()


@contextmanager
def span(
    name: str, attributes: Attributes | None = None, *, traceparent: str | None = None
) -> Iterator[Unseen]:
    """A span around a piece of work. With `traceparent` (W3C) it answers a caller who is being traced.

    Errors are noted by their type: their messages may quote values."""
    if _tracer is None:
        yield _UNSEEN
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context, kind = None, trace.SpanKind.INTERNAL
    if traceparent is not None:
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        kind = trace.SpanKind.SERVER
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=dict(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        try:
            yield Seen(begun)
        except BaseException as error:
            begun.set_attribute("error.type", type(error).__name__)
            begun.set_status(trace.StatusCode.ERROR)
            raise


def happened(name: str, started_ns: int, ended_ns: int, attributes: Attributes) -> None:
    """A span for work that is over, between two instants (epoch nanoseconds)."""
    if _tracer is not None:
        _tracer.start_span(name, start_time=started_ns, attributes=dict(attributes)).end(ended_ns)
