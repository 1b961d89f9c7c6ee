"""The OpenTelemetry SDK behind `shared.telemetry`, an exporter a service. Imported only where something is exported."""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.metrics import Counter, Gauge, Histogram, Levels
from shared.telemetry import Attributes, Notes, Told
from shared.telemetry_settings import TelemetrySettings
from shared.version import VERSION

log = structlog.get_logger()

SCOPE = "overspill"
BATCH_MILLISECONDS = 500
TIMEOUT_SECONDS = 5
SAY_SECONDS = 60.0
MAX_ATTRIBUTE_SETS = 2000
"""Of one instrument; what comes past it is counted together, as the metrics SDK's specification has it."""
OVERFLOW = {"otel.metric.overflow": True}


class Exporter:
    """Of one service in this process. Close it."""

    def __init__(self, service: str, settings: TelemetrySettings, *, metrics: bool) -> None:
        _say_seldom()
        self.service = service
        self._resource = Resource.create(
            {
                "service.name": f"overspill-{service}",
                "service.namespace": "overspill",
                "service.version": VERSION,
                "service.instance.id": str(uuid.uuid4()),
            }
        )
        self._spans: BatchSpanProcessor | None = None
        self._tracing = TracerProvider(
            resource=self._resource,
            sampler=ParentBased(TraceIdRatioBased(settings.traces_sampler_arg if settings.traces_address else 0)),
            shutdown_on_exit=False,
        )
        if settings.traces_address is not None:
            exporter = OTLPSpanExporter(endpoint=settings.traces_address, timeout=TIMEOUT_SECONDS)
            self._spans = BatchSpanProcessor(exporter, schedule_delay_millis=BATCH_MILLISECONDS)
            self._tracing.add_span_processor(self._spans)
        self._tracer = self._tracing.get_tracer(SCOPE, VERSION)
        self._metering = MeterProvider(
            _readers(settings) if metrics else [], resource=self._resource, shutdown_on_exit=False
        )
        self._meter = self._metering.get_meter(SCOPE, VERSION)
        self._instruments: dict[str, Any] = {}
        self._seen: dict[str, set[tuple[tuple[str, Any], ...]]] = {}
        self._levels: dict[str, Levels] = {}

    def close(self) -> None:
        """Blocking: what waits is sent, and what nobody takes within TIMEOUT_SECONDS is lost."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        ends = [Thread(target=end, daemon=True) for end in (self._tracing.shutdown, self._metering.shutdown)]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join(max(0.0, deadline - time.monotonic()))

    @contextmanager
    def span(self, name: str, kind: str, attributes: Attributes, above: str | None, notes: Notes) -> Iterator[str]:
        """Yields its context."""
        context = None if above is None else set_span_in_context(NonRecordingSpan(_context(above)))
        current = self._tracer.start_span(name, context=context, kind=SpanKind[kind], attributes=dict(attributes))
        own = current.get_span_context()
        try:
            yield f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
        except Exception as error:
            notes.failed(error)
            raise
        finally:
            if notes.name != name:
                current.update_name(notes.name)
            current.set_attributes(_with_error(notes.attributes, notes.error_type))
            for link in notes.links:
                current.add_link(_context(link))
            if notes.error_type is not None:
                current.set_status(Status(StatusCode.ERROR, notes.error_message or None))
            current.end()

    def tell(self, told: Told) -> None:
        if self._spans is None:
            return
        failed = told.error_type is not None
        self._spans.on_end(
            ReadableSpan(
                name=told.name,
                context=_context(told.context, remote=False),
                parent=None if told.parent is None else _context(told.parent),
                resource=self._resource,
                attributes=_with_error(told.attributes, told.error_type),
                links=[Link(_context(link)) for link in told.links],
                kind=SpanKind[told.kind],
                instrumentation_scope=InstrumentationScope(SCOPE, VERSION),
                status=Status(StatusCode.ERROR, told.error_message or None) if failed else Status(),
                start_time=told.begin_unix_ns,
                end_time=max(told.begin_unix_ns, told.end_unix_ns),
            )
        )

    def count(self, counter: Counter, amount: float, attributes: Attributes) -> None:
        instrument = self._instruments.get(counter.name)
        if instrument is None:
            instrument = self._meter.create_counter(counter.name, counter.unit, counter.description)
            self._instruments[counter.name] = instrument
        instrument.add(amount, self._bounded(counter.name, attributes))

    def observe(self, histogram: Histogram, value: float, attributes: Attributes) -> None:
        instrument = self._instruments.get(histogram.name)
        if instrument is None:
            instrument = self._meter.create_histogram(
                histogram.name,
                histogram.unit,
                histogram.description,
                explicit_bucket_boundaries_advisory=list(histogram.buckets),
            )
            self._instruments[histogram.name] = instrument
        instrument.record(value, self._bounded(histogram.name, attributes))

    def level(self, gauge: Gauge, levels: Levels) -> None:
        self._levels[gauge.name] = levels
        if gauge.name not in self._instruments:

            def read(_: CallbackOptions) -> Iterator[Observation]:
                for keys, value in self._levels[gauge.name].items():
                    yield Observation(value, dict(zip(gauge.attributes, keys, strict=True)))

            create = (
                self._meter.create_observable_up_down_counter if gauge.sums_up else self._meter.create_observable_gauge
            )
            self._instruments[gauge.name] = create(gauge.name, [read], gauge.unit, gauge.description)

    def _bounded(self, name: str, attributes: Attributes) -> Attributes:
        seen = self._seen.setdefault(name, set())
        key = tuple(sorted(attributes.items()))
        if key not in seen:
            if len(seen) >= MAX_ATTRIBUTE_SETS:
                return OVERFLOW
            seen.add(key)
        return attributes


class _Seldom(logging.Handler):
    """What the SDK has to say, as a fact of ours: a collector that is away is told once a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said_at = -SAY_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_SECONDS:
            self._said_at = now
            log.warning("not_exported", why=" ".join(record.getMessage().split())[:300])


def _say_seldom() -> None:
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Seldom) for handler in logger.handlers):
        logger.addHandler(_Seldom())
        logger.propagate = False


def _readers(settings: TelemetrySettings) -> list[PeriodicExportingMetricReader]:
    if settings.metrics_address is None:
        return []
    exporter = OTLPMetricExporter(endpoint=settings.metrics_address, timeout=TIMEOUT_SECONDS)
    return [PeriodicExportingMetricReader(exporter, export_interval_millis=settings.metric_export_interval)]


def _context(traceparent: str, *, remote: bool = True) -> SpanContext:
    _, trace, span, flags = traceparent.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=remote, trace_flags=TraceFlags(int(flags, 16)))


def _with_error(attributes: Mapping[str, Any], error_type: str | None) -> dict[str, Any]:
    return dict(attributes) if error_type is None else {**attributes, "error.type": error_type}
