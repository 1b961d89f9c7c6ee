"""The four figures, from rows and counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.figures.ledger import Ledger
from services.gateway.figures.model import WINDOWS, AttemptSpan, Figures, JobRow
from services.gateway.figures.refusing import kind_of
from services.gateway.figures.tally import NS, Windows, quantile
from services.gateway.refusals import CrossSite, NotPlacedHere, TooManyFollowers, TooManyRequests
from shared.bus import Message
from shared.errors import Forbidden, NotFound, Poison, Rejected, Unauthenticated, Unavailable
from shared.facts import CapacityCounted, Fact, RefusalsCounted
from shared.facts.figures import PoolCapacity, Refusals
from shared.flow import Figures as Subject
from shared.wire import encode

NOW = 10_000_000 * NS
SINCE = NOW - 3600 * NS
GOOD = JobRow(
    state="succeeded",
    epoch=1,
    created_ns=NOW - 100 * NS,
    placed_ns=NOW - 99 * NS,
    ended_ns=NOW - 50 * NS,
    first_accepted_ns=NOW - 98 * NS,
    accepted_ns=NOW - 98 * NS,
    attempt_ended_ns=NOW - 51 * NS,
    prepare_seconds=2.0,
    handover_seconds=0.5,
    finish_seconds=0.25,
)
WAITING = JobRow("queued", 0, NOW - 10 * NS, None, None, None, None, None, None, None, None)


def of(*rows: JobRow, spans: tuple[AttemptSpan, ...] = (), window: str = "hour") -> Figures:
    windows = Windows(WINDOWS, NOW)
    for row in rows:
        windows.job(row)
    for span in spans:
        windows.attempt(span)
    return windows.figures(lambda _: {})[window]


def test_a_job_that_started_in_time_and_ended_truthfully_is_a_kept_promise() -> None:
    for state in ("succeeded", "failed", "cancelled", "timed_out"):
        stability = of(GOOD._replace(state=state)).stability
        assert (stability.started_in_time, stability.ended_truthfully, stability.our_errors) == (1, 1, 0)
        assert stability.share == 1.0


def test_a_job_that_ended_by_our_error_is_a_broken_one_however_soon_it_started() -> None:
    stability = of(GOOD, GOOD._replace(state="error")).stability
    assert (stability.started_in_time, stability.our_errors, stability.share) == (2, 1, 0.5)


def test_a_job_that_still_waits_is_late_only_once_it_is_late() -> None:
    assert of(WAITING).stability.share is None
    stability = of(WAITING._replace(created_ns=NOW - 61 * NS)).stability
    assert (stability.started_in_time, stability.started_late, stability.share) == (0, 1, 0.0)


def test_a_job_that_was_cancelled_before_it_was_late_says_nothing_of_starts() -> None:
    row = WAITING._replace(state="cancelled", ended_ns=NOW - 5 * NS)
    stability = of(row).stability
    assert (stability.started_in_time, stability.started_late, stability.ended_truthfully) == (0, 0, 1)


def test_the_start_that_counts_is_that_of_the_first_attempt() -> None:
    stability = of(GOOD._replace(epoch=3, accepted_ns=NOW - 60 * NS)).stability
    assert (stability.started_in_time, stability.retried_attempts) == (1, 2)


def test_a_jobs_system_time_is_the_sum_of_its_parts() -> None:
    speed = of(GOOD).speed
    assert speed.parts == {"queue": 1.0, "start": 3.0, "hand-over": 0.5, "log flush": 0.25, "verdict": 1.0}
    assert speed.p50_seconds == speed.p99_seconds == sum(speed.parts.values())


def test_a_job_of_before_the_window_is_not_in_it_but_what_it_reserves_within_it_is() -> None:
    before = GOOD._replace(created_ns=SINCE - NS)
    span = AttemptSpan("c", "p", SINCE - 100 * NS, SINCE + 100 * NS, cores=2, memory_bytes=8)
    figures = of(before, spans=(span,))
    assert figures.stability.accepted == 0
    (pool,) = figures.cost
    assert (pool.cores_requested, pool.memory_requested) == (200, 800)


def test_idle_is_what_there_was_less_what_was_requested_and_never_below_nothing() -> None:
    windows = Windows(WINDOWS, NOW)
    windows.capacity(NOW, "c", PoolCapacity(pool="p", core_seconds=100.0, memory_byte_seconds=1000.0))
    windows.attempt(AttemptSpan("c", "p", NOW - 10 * NS, None, cores=4, memory_bytes=200))
    (pool,) = windows.figures(lambda _: {})["hour"].cost
    assert (pool.cores, pool.cores_requested, pool.cores_idle) == (100, 40, 60)
    assert (pool.memory_requested, pool.memory_idle) == (2000, 0)


@given(st.lists(st.integers(0, 10 * 86_400), max_size=50))
def test_a_window_counts_exactly_the_jobs_that_were_accepted_in_it(ages: list[int]) -> None:
    windows = Windows(WINDOWS, NOW)
    for age in ages:
        windows.job(GOOD._replace(created_ns=NOW - age * NS))
    for name, figures in windows.figures(lambda _: {}).items():
        within = sum(age <= WINDOWS[name] for age in ages)
        assert figures.stability.accepted == figures.stability.succeeded == figures.speed.jobs == within


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_so_large_a_share_does_not_exceed(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unauthenticated(why="x"), "credential"),
        (Forbidden(why="x"), "role"),
        (TooManyRequests(tenant="t", rate=1, retry_after_seconds=1), "rate"),
        (TooManyFollowers(what="x", why="y"), "rate"),
        (CrossSite(origin="x"), "origin"),
        (NotPlacedHere(epoch=1, job="j"), "foreign"),
        (Poison(why="x"), "poison"),
        (Rejected(why="x"), "spec"),
        (NotFound(what="job", name="x"), None),
        (Unavailable(what="x", why="y"), None),
    ],
)
def test_a_refusal_is_of_one_of_few_kinds_and_an_outage_is_none(error: Exception, kind: str | None) -> None:
    assert kind_of(error) == kind


def message(service: str, fact: Fact, at_ns: int) -> Message:
    return Message(str(Subject(service, fact.token())), encode(fact), {}, 1, at_ns)


def test_the_ledger_tells_a_tenants_own_refusals_and_forgets_what_is_older_than_a_week() -> None:
    ledger = Ledger()
    week = 7 * 86_400 * NS
    for at in (NOW - week - 1, NOW - 10 * NS, NOW):
        refusals = [Refusals(kind="rate", tenant="a", count=2), Refusals(kind="credential", count=3)]
        ledger.apply(message("gateway", RefusalsCounted(since_unix_ns=0, until_unix_ns=at, refusals=refusals), at))
    assert ledger.refusals(0, None) == {"rate": 4, "credential": 6}
    assert ledger.refusals(0, "a") == {"rate": 4}
    assert ledger.refusals(NOW - NS, None) == {"rate": 2, "credential": 3}
    assert ledger.refusals(0, "b") == {}


def test_the_ledger_tells_capacity_of_its_window_only() -> None:
    ledger = Ledger()
    for at in (NOW - 100 * NS, NOW):
        pools = [PoolCapacity(pool="p", core_seconds=120, memory_byte_seconds=1)]
        fact = CapacityCounted(since_unix_ns=0, until_unix_ns=at, cluster="c", pools=pools)
        ledger.apply(message("cluster-metrics", fact, at))
    assert len(list(ledger.capacity(0))) == 2
    assert [(cluster, pool.core_seconds) for _, cluster, pool in ledger.capacity(NOW - NS)] == [("c", 120.0)]
