"""One trace a job, from the request or message that submitted it to the last fact: every service and the runner a
process of its own, all told to one collector.
"""

from collections.abc import Iterator

import pytest

from shared.ids import job_id_from_event
from shared.metrics import METRICS
from shared.settings import ObjectSettings
from tests.collector import Collector, Span, Trace, collecting
from tests.conftest import BusServer
from tests.e2e.separately import MACHINE, Separately, running

OF_PODS = {"overspill.pods", "overspill.pods.pending"}
"""Told of Kubernetes clusters alone; this platform has an agent."""

STEPS = [{"name": "one", "run": "true"}, {"name": "two", "run": 'echo "$TRACEPARENT"'}]
CLIENT = "00-{trace}-00f067aa0ba902b7-{flags}"
FACT = "send evt.{tenant}.{job}.{epoch}."
RUNS = "RUN traced"

OF_EVERY_RUN = {
    (RUNS, "attempt"),
    (RUNS, "send job.{tenant}.{job}"),
    (RUNS, "send done.{tenant}.{job}"),
    ("attempt", "send order.{cluster}.{target}.{tenant}.{job}"),
    ("attempt", "accept attempt"),
    ("accept attempt", FACT + "attempt-accepted"),
    ("accept attempt", "request edge.{cluster}.{machine}.grant"),
    ("request edge.{cluster}.{machine}.grant", "answer edge.{cluster}.{machine}.grant"),
    ("attempt", FACT + "attempt-started"),
    ("attempt", FACT + "step-started"),
    ("attempt", FACT + "step-ended"),
    ("attempt", FACT + "attempt-ended"),
    ("attempt", "keep artifacts"),
    ("attempt", "request ask.{tenant}.{job}.{epoch}.durable"),
    ("request ask.{tenant}.{job}.{epoch}.durable", "answer ask.{tenant}.{job}.{epoch}.durable"),
    ("attempt", "RUN one"),
    ("attempt", "RUN two"),
}
"""(span above, span)"""


def at(door: str) -> set[tuple[str, str]]:
    """What a job that runs through without a source or artifacts looks like, whole."""
    return {(door, RUNS), (door, "send spec.{tenant}.{job}"), (door, "send job.{tenant}.{job}"), *OF_EVERY_RUN}


class Seen:
    """What was done while the pieces ran, and what the collector has of it once all of them have ended."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.jobs: dict[str, str] = {}
        self.printed = ""
        """What a step saw of its context."""

    def trace(self, what: str) -> Trace:
        return self.collector.trace_of(self.jobs[what])


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory, bus_server_started: BusServer, object_store_started: ObjectSettings
) -> Iterator[Seen]:
    home = tmp_path_factory.mktemp("pieces")
    with collecting() as collector:
        seen = Seen(collector)
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "500"}
        with running(home, bus_server_started, object_store_started, **settings) as pieces:
            submit_everything(pieces, seen)
        yield seen


def submit_everything(pieces: Separately, seen: Seen) -> None:
    assert pieces.http.get("/v1/jobs", headers={"Authorization": "Bearer nobody"}).status_code == 401
    pieces.publish({}, {"ce-id": "poison", "ce-source": "/tests", "ce-type": "of.nobody"})
    jobs, spec = seen.jobs, {"name": "traced", "steps": STEPS}
    jobs["http"] = pieces.submit(spec)
    jobs["http below a client"] = pieces.submit(spec, {"traceparent": client("a1", "01")})
    jobs["not sampled"] = pieces.submit(spec, {"traceparent": client("a2", "00")})
    jobs["garbage"] = pieces.submit(spec, {"traceparent": "00-" + "z" * 3000})
    for event, headers in (
        ("bus", {}),
        ("bus below a client", {"traceparent": client("a3", "01")}),
        ("bus with garbage", {"traceparent": "01-" + "9" * 3000}),
    ):
        pieces.publish(spec, {"ce-id": event.replace(" ", "-"), "ce-source": "/tests", **headers})
        jobs[event] = job_id_from_event("default", "/tests", event.replace(" ", "-"))
    jobs["failed"] = pieces.submit({"name": "traced", "steps": [{"name": "one", "run": "exit 7"}, STEPS[1]]})
    # The first attempt kills the process that runs it.
    lost = 'if [ "$OVERSPILL_ATTEMPT" = 1 ]; then kill -9 "$PPID"; fi'
    jobs["retried"] = pieces.submit({"name": "traced", "steps": [{"name": "one", "run": lost}, STEPS[1]]})
    # Who tells the attempt is killed in the middle of it; another one goes on.
    killer = 'until kill -9 "$(tr -d " \\n" <"$OVERSPILL_WORKSPACE/../step-ctl.lock")"; do sleep 0.1; done'
    jobs["told by two"] = pieces.submit({"name": "traced", "steps": [STEPS[0], {"name": "two", "run": killer}]})
    jobs["cancelled"] = pieces.submit({"name": "traced", "steps": [{"name": "one", "run": "sleep 600"}]})
    pieces.until_event(jobs["cancelled"], "step.started")
    pieces.http.post(f"/v1/jobs/{jobs['cancelled']}/cancel").raise_for_status()
    expected = {"failed": "failed", "cancelled": "cancelled"}
    for what, job in jobs.items():
        found = pieces.ended(job)
        assert found["state"] == expected.get(what, "succeeded"), (what, found)
    seen.collector.wait_for("overspill.scheduler.leading", 1)
    seen.collector.wait_for("overspill.capacity.cpu.time", 0.01)
    seen.printed = pieces.http.get(f"/v1/jobs/{jobs['http']}/logs", params={"step": 2}).text.strip()


def client(trace: str, flags: str) -> str:
    return CLIENT.format(trace=trace * 16, flags=flags)


@pytest.mark.parametrize(
    ("what", "door"),
    [
        ("http", "POST /v1/jobs"),
        ("garbage", "POST /v1/jobs"),
        ("bus", "process submit.{tenant}"),
        ("bus with garbage", "process submit.{tenant}"),
    ],
)
def test_a_job_is_one_trace_of_exactly_this_shape_without_orphans(seen: Seen, what: str, door: str) -> None:
    trace = seen.trace(what)
    assert [root.name for root in trace.roots] == [door], trace.drawn()
    assert not trace.orphans, trace.drawn()
    assert trace.edges == at(door), trace.drawn()


@pytest.mark.parametrize(
    ("what", "door"), [("http below a client", "POST /v1/jobs"), ("bus below a client", "process submit.{tenant}")]
)
def test_below_a_client_only_the_clients_own_span_is_not_ours(seen: Seen, what: str, door: str) -> None:
    trace = seen.trace(what)
    assert not trace.roots, trace.drawn()
    (top,) = trace.orphans
    assert (top.name, top.parent) == (door, "00f067aa0ba902b7")
    assert trace.edges == at(door), trace.drawn()


def test_what_the_client_does_not_want_sampled_no_service_and_no_runner_exports(seen: Seen) -> None:
    assert not [span.name for span in seen.collector.spans if span.trace == "a2" * 16]


def test_no_span_of_any_trace_lacks_its_parent(seen: Seen) -> None:
    known = {span.id for span in seen.collector.spans} | {"00f067aa0ba902b7"}
    assert not [span for span in seen.collector.spans if span.parent and span.parent not in known]


def test_every_process_has_a_part_in_it_under_its_own_name(seen: Seen) -> None:
    spans = seen.trace("http").spans
    assert {span.service for span in spans} == {
        f"overspill-{name}" for name in ("gateway", "scheduler", "agent", "step-ctl", "log-collector")
    }
    for span in spans:
        assert span.resource["service.version"]
        assert span.resource["service.instance.id"]
    assert len({span.resource["service.instance.id"] for span in spans}) == 5


def test_the_run_and_its_steps_are_named_by_the_conventions_of_ci(seen: Seen) -> None:
    trace = seen.trace("http")
    run, attempt, step = trace.named(RUNS), trace.named("attempt"), trace.named("RUN two")
    assert (run.kind, attempt.kind, step.kind) == ("SERVER", "INTERNAL", "INTERNAL")
    assert run.attributes["cicd.pipeline.action.name"] == "RUN"
    assert run.attributes["cicd.pipeline.name"] == "traced"
    assert run.attributes["cicd.pipeline.run.id"] == seen.jobs["http"]
    assert run.attributes["cicd.pipeline.result"] == "success"
    assert attempt.attributes["cicd.worker.name"] == MACHINE
    assert attempt.attributes["cicd.worker.id"] == f"local/{MACHINE}"
    assert step.attributes["cicd.pipeline.task.name"] == "two"
    assert step.attributes["cicd.pipeline.task.run.id"] == f"{seen.jobs['http']}-1-2"
    assert step.attributes["cicd.pipeline.task.run.result"] == "success"
    assert not any(span.failed for span in trace.spans)
    assert run.begin_ns <= attempt.begin_ns <= step.begin_ns <= step.end_ns <= attempt.end_ns <= run.end_ns


def test_a_failed_step_is_the_error_of_its_span_its_attempt_and_its_run(seen: Seen) -> None:
    trace = seen.trace("failed")
    failed, skipped = trace.named("RUN one"), trace.named("RUN two")
    assert (failed.failed, failed.attributes["error.type"]) == (True, "exit_code")
    assert failed.attributes["cicd.pipeline.task.run.result"] == "failure"
    assert (skipped.failed, skipped.attributes["cicd.pipeline.task.run.result"]) == (False, "skip")
    run = trace.named(RUNS)
    assert (run.failed, run.attributes["cicd.pipeline.result"]) == (True, "failure")
    assert run.attributes["error.type"] == "step_failed"
    assert not trace.orphans


def test_a_second_attempt_is_in_the_same_trace_and_linked_to_the_first(seen: Seen) -> None:
    trace = seen.trace("retried")
    first, second = sorted(trace.all_named("attempt"), key=lambda span: span.attributes["overspill.attempt"])
    assert trace.parent(first) == trace.parent(second) == trace.named(RUNS)
    assert (first.failed, first.attributes["overspill.outcome"]) == (True, "error")
    assert (second.failed, second.attributes["overspill.outcome"]) == (False, "succeeded")
    assert (first.links, second.links) == ((), (first.id,))
    assert {trace.parent(span).id for span in trace.all_named("accept attempt")} == {first.id, second.id}
    assert {trace.parent(span).id for span in trace.all_named("RUN one")} >= {second.id}
    assert not trace.orphans, trace.drawn()


def test_a_runner_that_is_killed_leaves_no_orphan_and_no_gap(seen: Seen) -> None:
    trace = seen.trace("told by two")
    assert not trace.orphans, trace.drawn()
    assert trace.edges == at("POST /v1/jobs"), trace.drawn()


def test_a_cancel_is_a_request_of_its_own_and_its_fact_is_in_the_jobs_trace(seen: Seen) -> None:
    trace = seen.trace("cancelled")
    run = trace.named(RUNS)
    assert (run.failed, run.attributes["cicd.pipeline.result"]) == (False, "cancellation")
    assert trace.parent(trace.named("send evt.{tenant}.{job}.{epoch}.job-cancel-requested")) == run
    request = seen.collector.named("POST /v1/jobs/{job}/cancel")
    assert request.trace != run.trace
    assert request.links == (run.id,)
    assert trace.named("RUN one").attributes["cicd.pipeline.task.run.result"] == "cancellation"
    assert not trace.orphans


def test_whatever_crosses_the_bus_is_named_by_the_conventions_of_messaging(seen: Seen) -> None:
    kinds = {"send": "PRODUCER", "request": "CLIENT", "answer": "SERVER", "process": "CONSUMER"}
    types = {"send": "send", "request": "send", "answer": "process", "process": "process"}
    jobs = [what for what in seen.jobs if what != "not sampled"]
    crossing = [span for what in jobs for span in seen.trace(what).spans if is_message(span)]
    assert {span.attributes["messaging.operation.name"] for span in crossing} == set(kinds)
    for span in crossing:
        operation = span.attributes["messaging.operation.name"]
        assert span.attributes["messaging.system"] == "nats"
        assert span.name == f"{operation} {span.attributes['messaging.destination.template']}"
        assert span.kind == kinds[operation]
        assert span.attributes["messaging.operation.type"] == types[operation]
        assert "{" not in span.attributes["messaging.destination.name"]


def is_message(span: Span) -> bool:
    return "messaging.system" in span.attributes


def test_a_steps_programs_get_the_context_of_its_own_span(seen: Seen) -> None:
    trace = seen.trace("http")
    step = trace.named("RUN two")
    assert seen.printed.startswith(f"00-{step.trace}-{step.id}-")


def test_every_figure_is_exported_with_the_attributes_it_is_declared_with_and_no_others(seen: Seen) -> None:
    declared = {metric.name: metric for metric in METRICS}
    points = seen.collector.points
    assert {point.metric for point in points} == declared.keys() - OF_PODS
    for point in points:
        assert point.attributes.keys() == set(declared[point.metric].attributes), point
        assert point.unit == declared[point.metric].unit


def test_the_figures_say_what_happened_and_name_no_job(seen: Seen) -> None:
    collector = seen.collector
    jobs, tenant = len(seen.jobs), {"overspill.tenant": "default"}
    accepted = [point for point in collector.points if point.metric == "overspill.jobs.accepted"]
    doors = {point.attributes["overspill.door"]: point.value for point in accepted}
    assert doors == {"http": jobs - 3, "bus": 3}
    assert collector.value("overspill.jobs.started", **tenant, **{"overspill.in_time": True}) == jobs
    pending = {"cicd.pipeline.run.state": "pending", **tenant}
    results = {"success": jobs - 2, "failure": 1, "cancellation": 1}
    for result, number in results.items():
        assert collector.counted("cicd.pipeline.run.duration", **pending, **{"cicd.pipeline.result": result}) == number
    for part in ("queue", "start", "hand-over", "log flush", "verdict"):
        # It names no tenant: jobs that other tests left on this bus count too.
        assert collector.counted("overspill.job.system.time", **{"overspill.part": part}) >= jobs
    assert collector.value("overspill.attempts.retried", **{"error.type": "runner_lost"}) == 1
    assert collector.value("cicd.pipeline.run.errors", **tenant, **{"error.type": "step_failed"}) == 1
    for kind in ("credential", "poison"):
        assert collector.value("overspill.refusals", **{"overspill.refusal.kind": kind}) == 1
    values = {str(value) for point in collector.points for value in point.attributes.values()}
    assert not values & set(seen.jobs.values())
