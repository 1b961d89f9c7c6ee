"""One trace a job, from the HTTP request through every service and the runner to the last fact."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.contract.test_spans import Collector
from tests.e2e.platform import Platform

HOPS = {
    "POST",
    "send job.{tenant}.{job}",
    "send order.{cluster}.{target}.{tenant}.{job}",
    "accept attempt",
    "attempt",
    "send evt.{tenant}.{job}.{epoch}.{kind}",
    "send done.{tenant}.{job}",
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def test_a_job_is_one_trace_without_orphans(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    platform = Platform(tmp_path, tmp_path / "data")
    platform.start()
    try:
        done = platform.run("run", cwd=platform.spec("steps: [{run: 'true'}, {run: 'true'}]"))
    finally:
        platform.end()
    assert done.code == 0, done.out + done.err
    # `run` uploads its source first, with requests (and so traces) of their own: the job's is the one with an attempt.
    trace = collector.named("attempt").trace_id
    spans = [span for span in collector.spans if span.trace_id == trace]
    known = {span.span_id for span in spans}
    assert {span.name for span in spans} >= HOPS
    assert [span.name for span in spans if not span.parent_span_id] == ["POST"]
    assert not [span.name for span in spans if span.parent_span_id and span.parent_span_id not in known]
