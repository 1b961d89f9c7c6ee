"""Spans, figures and trace context on every hop, as services and runners use them.

The context travels as a W3C `traceparent` whether or not anything is exported. The OpenTelemetry SDK
(`shared.exporting`) is imported only when an endpoint is configured, so that a runner starts without it.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from shared.errors import OverspillError
from shared.metrics import ERROR, SYSTEM_ERRORS, Counter, Gauge, Histogram, Levels

if TYPE_CHECKING:
    from shared.exporting import Exporter
    from shared.telemetry_settings import TelemetrySettings

SpanKind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int | float | bool]

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED = 1

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
_notes: ContextVar["Notes | None"] = ContextVar("notes", default=None)
_exporter: ContextVar["Exporter | None"] = ContextVar("exporter", default=None)


@dataclass(slots=True)
class Notes:
    """What is learnt while a span lasts; written into it at its end."""

    name: str
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    """Contexts of spans it has to do with, though they are not above it."""
    error_type: str | None = None
    error_message: str = ""

    def failed(self, error: Exception) -> None:
        self.error_type = error.code if isinstance(error, OverspillError) else type(error).__name__
        self.error_message = str(error)[:300]


@dataclass(frozen=True, slots=True)
class Told:
    """A span whose begin and end are known: somebody recorded them, and only now they are told."""

    name: str
    kind: SpanKind
    attributes: Attributes
    context: str
    """Its own traceparent."""
    parent: str | None
    begin_unix_ns: int
    end_unix_ns: int
    error_type: str | None = None
    error_message: str = ""
    links: Sequence[str] = ()


def valid_traceparent(text: str | None) -> str | None:
    """What came from outside, if it is one."""
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def current_traceparent() -> str | None:
    return _traceparent.get()


def is_sampled(traceparent: str | None) -> bool:
    """Whether who began the trace wants it exported."""
    return valid_traceparent(traceparent) is not None and bool(int(str(traceparent)[-2:], 16) & _SAMPLED)


def exporting(parent: str | None = None) -> bool:
    """Whether a span below `parent` (default: the current one) would go anywhere: hot paths skip describing it else."""
    return _exporter.get() is not None and is_sampled(parent or _traceparent.get())


def new_traceparent(*, sampled: bool) -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{'01' if sampled else '00'}"


def derived(traceparent: str, *words: str | int) -> str:
    """Context of a span in this trace whose id everyone who knows the words works out alike.

    So a span can be told by whoever sees its end, though others, who may die, already told what happened below it.
    """
    _, trace, _, flags = traceparent.split("-")
    text = "\0".join((trace, *map(str, words)))
    return f"00-{trace}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}-{flags}"


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
) -> Iterator[Notes]:
    """A span below `parent` (default: the current one). Below one that is not sampled, and where nothing is exported,
    it only hands the context on. An exception that leaves it is its error.
    """
    notes = Notes(name)
    above = parent or _traceparent.get()
    exporter = _exporter.get()
    if exporter is None or (above is not None and not is_sampled(above)):
        with continue_trace(above or new_traceparent(sampled=False)):
            yield notes
        return
    with exporter.span(name, kind, attributes or {}, above, notes) as context, continue_trace(context):
        token = _notes.set(notes)
        try:
            yield notes
        finally:
            _notes.reset(token)


def link(traceparent: str | None) -> None:
    """The current span has to do with that one, of another trace."""
    notes = _notes.get()
    if notes is not None and traceparent is not None:
        notes.links.append(traceparent)


def tell(told: Told | None) -> None:
    """Export a span that is over already, if it belongs to a trace that is sampled."""
    exporter = _exporter.get()
    if exporter is not None and told is not None and is_sampled(told.context):
        exporter.tell(told)


def count(counter: Counter, amount: float = 1, attributes: Attributes | None = None) -> None:
    exporter = _exporter.get()
    if exporter is not None:
        exporter.count(counter, amount, attributes or {})


def observe(histogram: Histogram, value: float, attributes: Attributes | None = None) -> None:
    exporter = _exporter.get()
    if exporter is not None:
        exporter.observe(histogram, value, attributes or {})


def level(gauge: Gauge, levels: Levels) -> None:
    """All that the gauge says from now on, for every set of attributes; an empty one says nothing."""
    exporter = _exporter.get()
    if exporter is not None:
        exporter.level(gauge, levels)


def system_error(error_type: str) -> None:
    """This part of the platform met something it could not handle as it should."""
    exporter = _exporter.get()
    if exporter is not None:
        exporter.count(SYSTEM_ERRORS, 1, {"cicd.system.component": exporter.service, ERROR: error_type})


def measuring() -> bool:
    """Whether figures go anywhere."""
    return _exporter.get() is not None


def exporting_is_set(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a place to export to, as `TelemetrySettings` reads it; without its cost."""
    return any(name.upper().startswith("OTEL_EXPORTER_OTLP") and value for name, value in environ.items())


@asynccontextmanager
async def telemetry(service: str, settings: "TelemetrySettings", *, metrics: bool = True) -> AsyncIterator[None]:
    """Spans and figures of this task and the tasks it starts are exported as `service`, when an endpoint is set.

    `metrics` False: no figures, of a process too short-lived for them.
    """
    if settings.traces_address is None and (not metrics or settings.metrics_address is None):
        yield
        return
    from shared.exporting import Exporter

    exporter = Exporter(service, settings, metrics=metrics)
    token = _exporter.set(exporter)
    try:
        yield
    finally:
        _exporter.reset(token)
        # In a thread: a collector that is away must not hold up what others still have to end.
        await asyncio.to_thread(exporter.close)
