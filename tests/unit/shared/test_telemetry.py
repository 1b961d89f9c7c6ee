"""Trace context and spans without a collector, and what is loaded for them."""

import asyncio
import os
import subprocess
import sys

import pytest

from shared.adapters.nats_spans import template
from shared.exporting import MAX_ATTRIBUTE_SETS, OVERFLOW, Exporter
from shared.flow import Ask, Evt, Job
from shared.metrics import METRICS, REFUSED, Counter, Gauge
from shared.telemetry import (
    continue_trace,
    count,
    current_traceparent,
    derived,
    exporting,
    is_sampled,
    measuring,
    span,
    telemetry,
    valid_traceparent,
)
from shared.telemetry_settings import TelemetrySettings
from tests.collector import collecting

TRACE = "a" * 32
PARENT = f"00-{TRACE}-{'b' * 16}-01"
UNSAMPLED = f"00-{TRACE}-{'b' * 16}-00"


@pytest.mark.parametrize(
    "text", [None, "", "x", PARENT + "-", PARENT.upper(), f"00-{'0' * 32}-{'b' * 16}-01", PARENT.replace("00-", "01-")]
)
def test_what_is_no_traceparent_is_none_and_belongs_to_no_trace(text: str | None) -> None:
    assert valid_traceparent(text) is None
    assert not is_sampled(text)


def test_a_derived_context_is_the_same_for_all_who_know_the_words_and_stays_in_its_trace() -> None:
    first = derived(PARENT, "attempt", "j", 1)
    assert first == derived(f"00-{TRACE}-{'c' * 16}-01", "attempt", "j", 1)
    assert valid_traceparent(first)
    assert first.split("-")[1] == TRACE
    assert is_sampled(first)
    assert not is_sampled(derived(UNSAMPLED, "attempt", "j", 1))
    others = (("attempt", "j", 2), ("attempt", "j1"), ("step", "j", 1), ("attempt", "k", 1))
    assert len({derived(PARENT, *words) for words in others} | {first}) == 5


async def test_without_a_collector_the_context_is_handed_on_as_it_came() -> None:
    async with telemetry("test", TelemetrySettings()):
        with span("one", parent=PARENT):
            assert current_traceparent() == PARENT
        assert not exporting(PARENT)
        assert not measuring()


async def test_a_trace_that_began_unsampled_has_no_spans_though_there_is_a_collector() -> None:
    with collecting() as collector:
        async with telemetry("test", TelemetrySettings(exporter_otlp_endpoint=collector.endpoint)):
            with span("unseen", parent=UNSAMPLED):
                assert current_traceparent() == UNSAMPLED
                assert not exporting()
            with continue_trace(PARENT), span("seen"):
                assert exporting()
        assert [one.name for one in collector.spans] == ["seen"]


async def test_the_share_of_traces_that_begin_here_is_the_samplers_and_none_is_half_exported() -> None:
    with collecting() as collector:
        settings = TelemetrySettings(exporter_otlp_endpoint=collector.endpoint, traces_sampler_arg=0)
        async with telemetry("test", settings):
            with span("root"):
                assert not is_sampled(current_traceparent())
                with span("below"):
                    assert not is_sampled(current_traceparent())
        assert not collector.spans


async def test_an_exception_is_its_spans_error_and_a_cancelled_task_is_none() -> None:
    with collecting() as collector:
        async with telemetry("test", TelemetrySettings(exporter_otlp_endpoint=collector.endpoint)):
            with pytest.raises(ZeroDivisionError), span("broken"):
                _ = 1 / 0
            with pytest.raises(KeyboardInterrupt), span("stopped"):
                raise KeyboardInterrupt
        assert collector.named("broken").failed
        assert collector.named("broken").attributes["error.type"] == "ZeroDivisionError"
        assert not collector.named("stopped").failed


def test_attributes_of_an_instrument_are_bounded_and_what_comes_past_is_still_counted() -> None:
    with collecting() as collector:
        exporter = Exporter("test", TelemetrySettings(exporter_otlp_endpoint=collector.endpoint), metrics=True)
        for number in range(MAX_ATTRIBUTE_SETS + 7):
            exporter.count(REFUSED, 1, {"overspill.refusal.kind": str(number)})
        exporter.close()
        points = [point for point in collector.points if point.metric == REFUSED.name]
        assert len(points) == MAX_ATTRIBUTE_SETS + 1
        assert collector.value(REFUSED.name, **OVERFLOW) == 7
        assert sum(point.value for point in points) == MAX_ATTRIBUTE_SETS + 7


def test_a_gauge_forgets_what_is_not_told_again() -> None:
    gauge = Gauge("overspill.test", "1", "A test's.", ("of",))
    with collecting() as collector:
        exporter = Exporter("test", TelemetrySettings(exporter_otlp_endpoint=collector.endpoint), metrics=True)
        exporter.level(gauge, {("a",): 1, ("b",): 2})
        exporter.level(gauge, {("b",): 3})
        exporter.close()
        assert [(point.attributes["of"], point.value) for point in collector.points] == [("b", 3)]


def test_names_of_metrics_are_the_conventions_own_or_ours() -> None:
    from opentelemetry.semconv._incubating.metrics import cicd_metrics
    from opentelemetry.semconv.metrics import http_metrics

    words = (*vars(cicd_metrics).values(), *vars(http_metrics).values())
    known = {word for word in words if isinstance(word, str)}
    for metric in METRICS:
        assert metric.name in known or metric.name.startswith("overspill."), metric.name
        assert metric.description.endswith(".")
        assert not any(word in attribute for attribute in metric.attributes for word in ("job", "run.id", "epoch"))
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert any(isinstance(metric, Counter) for metric in METRICS)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (Job("t", "j"), "job.{tenant}.{job}"),
        (Evt("t", "j", 3, "step-ended"), "evt.{tenant}.{job}.{epoch}.step-ended"),
        ("ask.t.j.3.urls", "ask.{tenant}.{job}.{epoch}.urls"),
        (str(Ask("t", "j", 3, "durable")), "ask.{tenant}.{job}.{epoch}.durable"),
        ("svc.scheduler.why", "svc.scheduler.why"),
        ("svc.too.many.tokens", "svc.{service}.{op}"),
        ("_INBOX.x.y", None),
    ],
)
def test_a_spans_destination_says_what_it_was_about_and_never_which_job(subject: str, name: str | None) -> None:
    assert template(subject) == name


def loaded(**environment: str) -> str:
    """What a spare step-ctl has loaded once it waits; nobody ever hands it a directory."""
    script = (
        "import argparse, sys, runner.step_ctl.__main__ as m\n"
        "m._attempt_dir(argparse.Namespace(directory=None))\n"
        "print('opentelemetry' in sys.modules)"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        env=kept | environment,
    )
    return done.stdout.strip()


def test_a_spare_runner_loads_the_sdk_while_nobody_waits_and_only_where_something_is_exported() -> None:
    assert loaded() == "False"
    assert loaded(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") == "True"


async def test_a_collector_that_is_away_holds_up_nobody_and_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    settings = TelemetrySettings(exporter_otlp_endpoint="http://127.0.0.1:9", metric_export_interval=100)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        going_on = tasks.create_task(others())
        async with telemetry("test", settings):
            with span("lost"):
                count(REFUSED, attributes={"overspill.refusal.kind": "rate"})
            before = turns
        assert turns > before + 100
        going_on.cancel()
    told = capfd.readouterr()
    assert (told.out + told.err).count("not_exported") == 1
    assert "Traceback" not in told.out + told.err
