"""Spans of what crosses the bus, named by OpenTelemetry's messaging conventions: `{operation} {destination}`."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from shared.flow import LogTo
from shared.subject import Subject
from shared.telemetry import SpanKind, exporting, span


def _destination(subject: Subject | str) -> str:
    """The pattern, where it is known: a span's name must not have a job's id in it."""
    return subject.pattern if isinstance(subject, Subject) else subject.split(".", 1)[0]


def _attributes(operation: str, subject: Subject | str) -> dict[str, str | int | float | bool]:
    attributes: dict[str, str | int | float | bool] = {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.destination.name": str(subject),
    }
    if isinstance(subject, Subject):
        attributes["messaging.destination.template"] = subject.pattern
    return attributes


def _span(
    operation: str, kind: SpanKind, subject: Subject | str, parent: str | None = None
) -> AbstractContextManager[Any]:
    if not exporting():
        return nullcontext()
    return span(f"{operation} {_destination(subject)}", kind, _attributes(operation, subject), parent=parent)


def sending(subject: Subject | str) -> AbstractContextManager[Any]:
    """Log chunks have none of their own: there may be thousands in a second."""
    return nullcontext() if isinstance(subject, LogTo) else _span("send", "PRODUCER", subject)


def asking(subject: Subject | str) -> AbstractContextManager[Any]:
    return _span("request", "CLIENT", subject)


def answering(subject: str, parent: str | None) -> AbstractContextManager[Any]:
    return _span("answer", "SERVER", subject, parent)
