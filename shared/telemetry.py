"""Spans and trace context on every hop.

The context travels as a W3C `traceparent` whether or not spans are exported. The OpenTelemetry SDK is imported only
when an
endpoint is configured, so that a runner starts without it.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SpanKind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int | float | bool]

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
_tracer: ContextVar[Any] = ContextVar("tracer", default=None)


class TelemetrySettings(BaseSettings):
    """The names are OpenTelemetry's own."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", extra="ignore")

    exporter_otlp_endpoint: str | None = Field(
        default=None, description="OTLP over HTTP; nothing is exported when absent"
    )
    traces_sampler_arg: float = Field(
        default=1.0, ge=0, le=1, description="share of traces that begin here and are exported"
    )


def current_traceparent() -> str | None:
    return _traceparent.get()


def exporting() -> bool:
    """Whether spans go anywhere: hot paths skip describing them otherwise."""
    return _tracer.get() is not None


def new_traceparent(*, sampled: bool) -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{'01' if sampled else '00'}"


@contextmanager
def continue_trace(traceparent: str | None) -> Iterator[None]:
    """Whatever is told inside belongs to this trace."""
    token = _traceparent.set(traceparent)
    try:
        yield
    finally:
        _traceparent.reset(token)


@contextmanager
def span(
    name: str, kind: SpanKind = "INTERNAL", attributes: Attributes | None = None, *, parent: str | None = None
) -> Iterator[dict[str, str | int | float | bool]]:
    """A span below `parent` (default: the current one). What is put into the yielded dict becomes attributes at its
    end.
    """
    extra: dict[str, str | int | float | bool] = {}
    above = parent or _traceparent.get()
    tracer = _tracer.get()
    if tracer is None:
        with continue_trace(above or new_traceparent(sampled=False)):
            yield extra
        return
    with _exported(tracer, name, kind, dict(attributes or {}), above, extra):
        yield extra


@contextmanager
def _exported(
    tracer: Any, name: str, kind: SpanKind, attributes: dict[str, Any], above: str | None, extra: dict[str, Any]
) -> Iterator[None]:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    context = propagator.extract({"traceparent": above} if above else {})
    with tracer.start_as_current_span(
        name, context=context, kind=trace.SpanKind[kind], attributes=attributes
    ) as current:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        with continue_trace(carrier.get("traceparent")):
            try:
                yield
            finally:
                current.set_attributes(extra)


@contextmanager
def telemetry(service: str, settings: TelemetrySettings) -> Iterator[None]:
    """Spans of this task and the tasks it starts are exported as `service`, when an endpoint is set."""
    if settings.exporter_otlp_endpoint is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"overspill-{service}", "service.namespace": "overspill"}),
        sampler=ParentBased(TraceIdRatioBased(settings.traces_sampler_arg)),
        shutdown_on_exit=False,
    )
    endpoint = settings.exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), schedule_delay_millis=500))
    token = _tracer.set(provider.get_tracer("overspill"))
    try:
        yield
    finally:
        _tracer.reset(token)
        provider.shutdown()
