"""Spans of what crosses the bus, by OpenTelemetry's messaging conventions: `{operation} {destination template}`.

Only what belongs to a trace that is sampled has any: an agent that asks for its orders begins none.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from shared import flow
from shared.errors import Poison
from shared.flow import LogTo
from shared.subject import Subject
from shared.telemetry import SpanKind, exporting, span

OperationType = Literal["send", "process"]
_FEW = ("op", "kind", "service")
"""Fields of subjects with few values: a template keeps them, so that a span's name says what it was about."""
_PATTERNS: dict[str, type[Subject]] = {
    kind.pattern.split(".", 1)[0]: kind
    for kind in (flow.Submit, flow.Evt, flow.Ask, flow.Edge, flow.Svc, flow.Job, flow.Done, flow.OrderTo)
}


def template(subject: Subject | str) -> str | None:
    """Low cardinality: no job's id is in it. None for a subject that none of ours is like."""
    if isinstance(subject, str):
        kind = _PATTERNS.get(subject.split(".", 1)[0])
        if kind is None:
            return None
        try:
            subject = kind.parse(subject)
        except Poison:
            return kind.pattern
    found = subject.pattern
    for name in _FEW:
        if f"{{{name}}}" in found:
            found = found.replace(f"{{{name}}}", str(getattr(subject, name)))
    return found


def _span(
    operation: str, kind: SpanKind, of_type: OperationType, subject: Subject | str, parent: str | None = None
) -> AbstractContextManager[Any]:
    if not exporting(parent):
        return nullcontext()
    attributes: dict[str, str | int | float | bool] = {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": of_type,
        "messaging.destination.name": str(subject),
    }
    known = template(subject)
    if known is not None:
        attributes["messaging.destination.template"] = known
    return span(f"{operation} {known}" if known else operation, kind, attributes, parent=parent)


def sending(subject: Subject | str) -> AbstractContextManager[Any]:
    """Log chunks have none of their own: there may be thousands in a second."""
    return nullcontext() if isinstance(subject, LogTo) else _span("send", "PRODUCER", "send", subject)


def asking(subject: Subject | str) -> AbstractContextManager[Any]:
    """A request whose answer is waited for."""
    return _span("request", "CLIENT", "send", subject)


def answering(subject: str, parent: str | None) -> AbstractContextManager[Any]:
    return _span("answer", "SERVER", "process", subject, parent)
