"""One trace from hop to hop, as the collector of an operator receives it."""

from shared import flow
from shared.adapters.nats_bus import NatsBus
from shared.bus import TRACEPARENT, Message
from shared.telemetry import current_traceparent, span, telemetry
from shared.telemetry_settings import TelemetrySettings
from tests.collector import collecting


async def test_a_request_and_a_stored_message_belong_to_the_askers_trace(bus: NatsBus) -> None:
    async def answer(_: Message) -> tuple[bytes, dict[str, str]]:
        await bus.publish(flow.Job("acme", "one"), b"x")
        return b"", {}

    with collecting() as collector:
        settings = TelemetrySettings(exporter_otlp_endpoint=collector.endpoint)
        async with telemetry("test", settings):
            with span("whole", "SERVER"):
                async with bus.serve("svc.cache.x", answer):
                    await bus.request(flow.Svc("cache", "x"))
        whole, request = collector.named("whole"), collector.named("request svc.cache.x")
        answered = collector.named("answer svc.cache.x")
    assert request.parent == whole.id
    assert answered.parent == request.id
    assert collector.named("send job.{tenant}.{job}").parent == answered.id
    stored = await bus.last(flow.JOBS, flow.Job("acme", "one"))
    assert stored is not None
    assert stored.headers[TRACEPARENT].split("-")[1] == whole.trace


async def test_the_context_travels_though_nothing_is_exported(bus: NatsBus) -> None:
    with span("whole", "SERVER"):
        mine = current_traceparent()
        await bus.publish(flow.Job("acme", "one"), b"x")
    stored = await bus.last(flow.JOBS, flow.Job("acme", "one"))
    assert stored is not None
    assert mine is not None
    assert stored.headers[TRACEPARENT] == mine
