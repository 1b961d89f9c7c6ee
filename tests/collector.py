"""An operator's OpenTelemetry collector: OTLP over HTTP, traces and metrics of however many processes."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent


@dataclass(frozen=True)
class Span:
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: bool
    resource: dict[str, Any]
    begin_ns: int
    end_ns: int

    @property
    def service(self) -> str:
        return str(self.resource["service.name"])


@dataclass(frozen=True)
class Point:
    """The newest value of one metric for one set of attributes."""

    metric: str
    unit: str
    attributes: dict[str, Any]
    value: float
    count: int = 0


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self._arrived = Condition()
        self._spans: dict[tuple[str, str], Span] = {}
        self._points: dict[tuple[str, str, str], Point] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Span]:
        """One of each id: some are told twice, after a crash."""
        with self._arrived:
            return list(self._spans.values())

    @property
    def points(self) -> list[Point]:
        with self._arrived:
            return list(self._points.values())

    def named(self, name: str) -> Span:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def trace_of(self, job: str) -> "Trace":
        (trace,) = {span.trace for span in self.spans if span.attributes.get("cicd.pipeline.run.id") == job}
        return Trace([span for span in self.spans if span.trace == trace])

    def value(self, metric: str, **attributes: Any) -> float:
        """Of exactly one point."""
        return self._point(metric, attributes).value

    def counted(self, metric: str, **attributes: Any) -> int:
        """How many values a histogram has."""
        return self._point(metric, attributes).count

    def _point(self, metric: str, attributes: dict[str, Any]) -> Point:
        (found,) = (point for point in self.points if point.metric == metric and point.attributes == attributes)
        return found

    def wait_for(self, metric: str, at_least: float, seconds: float = 300) -> None:
        """Until some point of this metric has come so far."""

        def come() -> bool:
            return any(point.metric == metric and point.value >= at_least for point in self._points.values())

        with self._arrived:
            assert self._arrived.wait_for(come, seconds), sorted({point.metric for point in self._points.values()})

    def take_traces(self, request: ExportTraceServiceRequest) -> None:
        with self._arrived:
            for resource in request.resource_spans:
                about = _plain(resource.resource.attributes)
                for scope in resource.scope_spans:
                    for sent in scope.spans:
                        span = _span(sent, about)
                        self._spans[span.trace, span.id] = span
            self._arrived.notify_all()

    def take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        with self._arrived:
            for resource in request.resource_metrics:
                instance = _plain(resource.resource.attributes)["service.instance.id"]
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        for point in _points(metric):
                            self._points[instance, metric.name, str(sorted(point.attributes.items()))] = point
            self._arrived.notify_all()


class Trace:
    """The spans of one trace, as the tree they are."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = sorted(spans, key=lambda span: (span.begin_ns, span.name))
        self._known = {span.id: span for span in spans}

    @property
    def roots(self) -> list[Span]:
        return [span for span in self.spans if not span.parent]

    @property
    def orphans(self) -> list[Span]:
        return [span for span in self.spans if span.parent and span.parent not in self._known]

    def named(self, name: str) -> Span:
        (found,) = self.all_named(name)
        return found

    def all_named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def parent(self, span: Span) -> Span:
        return self._known[span.parent]

    def children(self, span: Span) -> list[Span]:
        return [child for child in self.spans if child.parent == span.id]

    @property
    def edges(self) -> set[tuple[str, str]]:
        """(name above, name) of every span but the roots."""
        return {(self._known[span.parent].name, span.name) for span in self.spans if span.parent in self._known}

    def drawn(self) -> str:
        """For whoever reads a failure."""
        lines: list[str] = []

        def draw(span: Span, depth: int) -> None:
            lines.append(f"{'  ' * depth}{span.name}  [{span.service.removeprefix('overspill-')}, {span.kind}]")
            for child in self.children(span):
                draw(child, depth + 1)

        for root in [*self.roots, *self.orphans]:
            draw(root, 0)
        return "\n".join(lines)


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.server.take_traces(ExportTraceServiceRequest.FromString(body))
        else:
            self.server.take_metrics(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = Thread(target=collector.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()


def _span(sent: Sent, resource: dict[str, Any]) -> Span:
    return Span(
        name=sent.name,
        kind=Sent.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_"),
        trace=sent.trace_id.hex(),
        id=sent.span_id.hex(),
        parent=sent.parent_span_id.hex(),
        attributes=_plain(sent.attributes),
        links=tuple(link.span_id.hex() for link in sent.links),
        failed=sent.status.code == 2,
        resource=resource,
        begin_ns=sent.start_time_unix_nano,
        end_ns=sent.end_time_unix_nano,
    )


def _points(metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        attributes = _plain(point.attributes)
        if kind == "histogram":
            yield Point(metric.name, metric.unit, attributes, point.sum, point.count)
        else:
            yield Point(metric.name, metric.unit, attributes, point.as_double or point.as_int)


def _plain(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    kind = pair.value.WhichOneof("value")
    return getattr(pair.value, str(kind))
