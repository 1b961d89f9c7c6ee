"""One trace from hop to hop, as the collector of an operator receives it."""

import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared import flow
from shared.adapters.nats_bus import NatsBus
from shared.bus import TRACEPARENT, Message
from shared.telemetry import TelemetrySettings, current_traceparent, span, telemetry


class Collector(ThreadingHTTPServer):
    """Receives OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[Span] = []

    def named(self, name: str) -> Span:
        (found,) = (span for span in self.spans if span.name == name)
        return found


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


async def test_a_request_and_a_stored_message_belong_to_the_askers_trace(bus: NatsBus) -> None:
    collector = Collector()
    Thread(target=collector.serve_forever, daemon=True).start()

    async def answer(_: Message) -> tuple[bytes, dict[str, str]]:
        await bus.publish(flow.Job("acme", "one"), b"x")
        return b"", {}

    endpoint = f"http://127.0.0.1:{collector.server_port}"
    async with bus.serve("svc.cache.x", answer):
        with telemetry("test", TelemetrySettings(exporter_otlp_endpoint=endpoint)), span("whole", "SERVER"):
            await bus.request(flow.Svc("cache", "x"))
    collector.shutdown()
    collector.server_close()
    whole, request = collector.named("whole"), collector.named("request svc.{service}.{op}")
    assert request.parent_span_id == whole.span_id
    stored = await bus.last(flow.JOBS, flow.Job("acme", "one"))
    assert stored is not None
    assert stored.headers[TRACEPARENT].split("-")[1] == whole.trace_id.hex()


async def test_the_context_travels_though_nothing_is_exported(bus: NatsBus) -> None:
    with span("whole", "SERVER"):
        mine = current_traceparent()
        await bus.publish(flow.Job("acme", "one"), b"x")
    stored = await bus.last(flow.JOBS, flow.Job("acme", "one"))
    assert stored is not None
    assert mine is not None
    assert stored.headers[TRACEPARENT] == mine
