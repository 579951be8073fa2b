"""OpenTelemetry spans: one per turn, a child per phase. Only this module knows OpenTelemetry; without `--otel` nobody
imports it.

The service runs inside its turn's span, on every runtime, so its own spans (an HTTP client's, say) are children.
The provider is made the process's: a service needs no set-up of its own. No span holds what anybody has said.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trialogue import Ending, Trace, TurnNames, __version__
from trialogue.core.events import Receipt
from trialogue.tracing import Phase
from trialogue_adapters.observability.names import Hide, as_attributes

Exporter = Literal["otlp", "console"]

LEAVE_SECONDS = 0.5
"""How long the last spans may take to leave when the process ends."""


def span_tracer(exporter: Exporter, hide: Hide) -> SpanTracer:
    """A tracer that exports. Raises ModuleNotFoundError when the OTLP exporter is not installed.

    A provider that is there already (`opentelemetry-instrument` makes one) is used as it is, `exporter` or not.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(resource=_resource())
        if exporter == "console":
            shown = ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n")
            provider.add_span_processor(SimpleSpanProcessor(shown))
        else:
            provider.add_span_processor(BatchSpanProcessor(_otlp()))
        trace.set_tracer_provider(provider)
    return SpanTracer(provider, hide)


def close() -> None:
    """Export what is left, for `LEAVE_SECONDS` at most: a collector that is away must not keep a process."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        leaving = threading.Thread(target=provider.shutdown, name="trialogue-otel", daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _resource() -> Resource:
    """Who we are, unless the standard variables say so."""
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({"service.version": __version__, **({} if named else {"service.name": "trialogue"})})


class SpanTracer:
    """The engine's `Tracer` port."""

    def __init__(self, provider: TracerProvider, hide: Hide) -> None:
        self._tracer = provider.get_tracer("trialogue", __version__)
        self._hide = hide
        self._propagator = TraceContextTextMapPropagator()

    def accepted(self, names: TurnNames, parent: str) -> Trace:
        # A context of its own: the actor's is that of whoever came first to the session.
        context = self._propagator.extract({"traceparent": parent}, Context()) if parent else Context()
        attributes = as_attributes(self._hide, names.fields())
        return SpanTrace(
            self._tracer, self._tracer.start_span("turn", context, kind=SpanKind.SERVER, attributes=attributes)
        )


class SpanTrace:
    """One turn's span, from acceptance to its upstream's end; the phase that it is in is a child."""

    __slots__ = ("_context", "_ended", "_phase", "_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span, Context())
        self._phase: Span | None = None
        self._ended = False

    def enter(self, phase: Phase) -> None:
        if self._span.is_recording():
            self._leave()
            self._phase = self._tracer.start_span(phase, self._context)

    def _leave(self) -> None:
        if self._phase:
            self._phase.end()
            self._phase = None

    def ended(self, ending: str, code: str) -> None:
        if self._ended or not self._span.is_recording():
            return
        self._ended = True
        told = {"trialogue.ending": str(ending), **({"trialogue.error_code": code} if code else {})}
        self._span.set_attributes(told)
        self._span.add_event("ended", told)
        if ending == Ending.FAILED:
            self._span.set_status(Status(StatusCode.ERROR, code))

    def settled(self, receipt: Receipt | None) -> None:
        if not self._span.is_recording():
            return
        self._leave()
        if receipt:
            self._span.set_attributes(
                {
                    "trialogue.tokens.generated": receipt.generated,
                    "trialogue.tokens.sent": receipt.sent,
                    **({} if receipt.acked is None else {"trialogue.tokens.acked": receipt.acked}),
                    "trialogue.upstream": receipt.upstream,
                }
            )
        self._span.end()

    def context(self) -> AbstractContextManager[Any]:
        return trace.use_span(self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False)
