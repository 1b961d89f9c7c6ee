"""How an attempt ended, from what its directory says."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol.attempt import Attempt
from runner.step_ctl.policy import Outputs, ended_while_keeping, spans, step_ended, step_facts, verdict
from runner.step_ctl.reading import ExitRecord, Seen, StepSeen, parse_exit
from shared.requests import Grant
from shared.spec import JobSpec

GRANT = Grant(
    tenant="t",
    job="j",
    epoch=1,
    spec=JobSpec.model_validate({"steps": [{"run": "x"}]}),
    bus_urls=[],
    bus_jwt="",
    bus_seed="",
    created_unix_ns=0,
)
ATTEMPT = Attempt(
    grant=GRANT,
    cluster="c",
    machine="m",
    nonce="n" * 16,
    fence_seconds=5,
    timeout_seconds=60,
    accepted_unix_ns=100,
    ready_unix_ns=200,
    deadline_boot_ns=0,
    entrypoint=Path("/e"),
)


def ended(
    number: int = 1, state: str = "exited", verdict: str = "ok", code: int | None = 0, **more: object
) -> StepSeen:
    fields = {"state": state, "verdict": verdict} | ({} if code is None else {"code": str(code)})
    record = replace(parse_exit(fields), **more)  # type: ignore[arg-type]
    return StepSeen(number, started_unix_ns=1, exit=record)


def skipped(number: int, killed_for: str = "none") -> StepSeen:
    return ended(number, "skipped", "ok" if killed_for == "none" else "failed", None, killed_for=killed_for)


LOST = StepSeen(2, started_unix_ns=1, lost="the process is gone")
FAILED = ended(1, verdict="failed", code=3)
CANCELLED = ended(1, "cancelled", "failed", 143)


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        (Seen((ended(),), "ok"), "succeeded", "all_steps_ok"),
        (Seen((ended(), ended(2, code=4)), "ok"), "succeeded", "all_steps_ok"),
        (Seen((FAILED, skipped(2)), "failed"), "failed", "step_failed"),
        (Seen((ended(1, "signaled", "failed", 137, killed_for="memory"),), "failed"), "failed", "out_of_memory"),
        (Seen((ended(1, "timed_out", "failed", 143, killed_for="timeout"),), "failed"), "failed", "step_failed"),
        (Seen((CANCELLED, skipped(2, "cancel")), "cancelled", "cancel"), "cancelled", "cancelled"),
        (Seen((CANCELLED, skipped(2, "timeout")), "cancelled", "timeout"), "timed_out", "timeout"),
        (Seen((CANCELLED,), "cancelled", "stale"), "error", "stale"),
        (Seen((CANCELLED,), "cancelled", "fenced"), "error", "machine_lost"),
        (Seen((CANCELLED,), "cancelled", "a word of a later version"), "cancelled", "cancelled"),
        (Seen((CANCELLED,), "cancelled"), "error", "evicted"),
        (Seen((FAILED, skipped(2, "cancel")), "cancelled", "cancel"), "failed", "step_failed"),
        (Seen((ended(),), "ok", "cancel"), "succeeded", "all_steps_ok"),
        (Seen((ended(), LOST)), "error", "runner_lost"),
        (Seen((ended(), LOST), None, "cancel"), "cancelled", "cancelled"),
        (Seen((skipped(1),), "ok"), "failed", "step_failed"),
        (Seen((ended(),), "failed"), "error", "setup_failed"),
        (Seen((skipped(1),), "failed", None, {"state": "failed", "why": "w"}), "failed", "source_unavailable"),
        (Seen((skipped(1),), "failed", None, {"state": "error"}), "error", "object_store_unavailable"),
    ],
)
def test_each_end_has_its_outcome(seen: Seen, outcome: str, reason: str) -> None:
    result = verdict(seen, ATTEMPT)
    assert result is not None
    assert (result.outcome, result.reason) == (outcome, reason)


@pytest.mark.parametrize(
    "seen", [Seen((StepSeen(1, started_unix_ns=1),)), Seen((ended(), StepSeen(2)), "ok"), Seen((ended(),))]
)
def test_what_may_still_run_has_no_verdict(seen: Seen) -> None:
    assert verdict(seen, ATTEMPT) is None


records = st.builds(
    ExitRecord,
    state=st.sampled_from(["exited", "signaled", "skipped", "timed_out", "cancelled", "ended", "not_started"]),
    verdict=st.sampled_from(["ok", "failed"]),
    code=st.none() | st.integers(0, 255),
    signal=st.none(),
    killed_for=st.sampled_from(["none", "memory", "timeout", "cancel", "stale", "fenced", "end"]),
    **{
        name: st.just(0)
        for name in (
            "tries",
            "started_unix_ns",
            "ended_unix_ns",
            "duration_ns",
            "cpu_us",
            "peak_memory_bytes",
            "oom_kills",
            "log_bytes",
            "log_dropped_bytes",
        )
    },
    usage_from=st.just("none"),
    message=st.just(""),
)
steps = st.builds(
    StepSeen,
    number=st.integers(1, 9),
    background=st.booleans(),
    started_unix_ns=st.none() | st.just(1),
    exit=st.none() | records,
    lost=st.none() | st.just("gone"),
)
seens = st.builds(
    Seen,
    st.lists(steps, min_size=1, max_size=4).map(tuple),
    st.sampled_from([None, "ok", "failed", "cancelled"]),
    st.sampled_from([None, "cancel", "timeout", "stale", "fenced"]),
)


@given(seens)
def test_success_is_never_without_an_exit_code_and_an_exit_of_every_step(seen: Seen) -> None:
    result = verdict(seen, ATTEMPT)
    if result is not None and result.outcome == "succeeded":
        assert result.exit_code is not None
        assert seen.finish == "ok"
        assert all(step.exit is not None for step in seen.steps)
        assert not any(step.exit is not None and step.exit.failed_by_itself for step in seen.steps)


def test_every_verdict_is_reached_by_finish_and_cancel_alone() -> None:
    for finish, cancel in product(["ok", "failed", "cancelled"], [None, "cancel", "timeout", "stale", "fenced"]):
        assert verdict(Seen((ended(),), finish, cancel), ATTEMPT) is not None


def test_an_ended_step_is_told_with_what_it_left() -> None:
    step = ended(1, verdict="failed", code=2, message="line 3", duration_ns=1_500_000_000)
    fact = step_ended(GRANT, ["x"], step, Outputs({"a": "b"}, "too much"))
    assert fact is not None
    assert (fact.exit_code, fact.duration_seconds, fact.outputs) == (2, 1.5, {"a": "b"})
    assert fact.message == "line 3; too much"
    assert [f.token() for f in step_facts(GRANT, ["x"], step)] == ["step-started"]


def test_time_is_split_into_ours_and_the_users() -> None:
    first = ended(1, started_unix_ns=300, ended_unix_ns=1300, duration_ns=1000)
    second = ended(2, started_unix_ns=1350, ended_unix_ns=2350, duration_ns=1000)
    split = spans(Seen((first, skipped(3), second), "ok"), ATTEMPT, 2400)
    nanoseconds = [
        round(s * 1e9)
        for s in (split.prepare_seconds, split.handover_seconds, split.user_seconds, split.finish_seconds)
    ]
    assert nanoseconds == [100, 150, 2000, 50]


@pytest.mark.parametrize(
    ("failed", "why"),
    [
        (FAILED, "step 1 exited with 3"),
        (ended(1, "signaled", "failed", 139, signal=11), "step 1 was ended by signal 11"),
        (ended(1, "timed_out", "failed", 143, killed_for="timeout"), "step 1 took longer than its timeout"),
        (ended(1, "exited", "failed", 1, message="no such file: go"), "no such file: go"),
    ],
)
def test_a_failed_job_says_what_its_step_did(failed: StepSeen, why: str) -> None:
    result = verdict(Seen((failed,), "failed"), ATTEMPT)
    assert result is not None
    assert (result.message, result.step) == (why, 1)


@pytest.mark.parametrize(
    ("cancel", "outcome", "message"),
    [
        ("cancel", "cancelled", "ended while artifacts were stored"),
        ("timeout", "timed_out", "the job took longer than its timeout of 60 s; ended while artifacts were stored"),
        (None, "cancelled", "ended while artifacts were stored"),
    ],
)
def test_who_is_ended_while_artifacts_are_stored_has_not_succeeded(
    cancel: str | None, outcome: str, message: str
) -> None:
    good = verdict(Seen((ended(),), "ok"), ATTEMPT)
    assert good is not None
    told = ended_while_keeping(Seen((ended(),), "ok", cancel), ATTEMPT, good)
    assert (told.outcome, told.message, told.exit_code) == (outcome, message, 0)


def test_who_is_ended_while_a_failed_jobs_artifacts_are_stored_has_failed_all_the_same() -> None:
    bad = verdict(Seen((FAILED,), "failed"), ATTEMPT)
    assert bad is not None
    assert ended_while_keeping(Seen((FAILED,), "failed", "cancel"), ATTEMPT, bad) is bad


def test_a_step_is_told_as_started_then_as_ready_and_as_ended_only_once_it_is() -> None:
    seen = StepSeen(1, started_unix_ns=5, ready_unix_ns=9)
    facts = list(step_facts(GRANT, ["x"], seen))
    assert [(type(fact).__name__, fact.at_unix_ns) for fact in facts] == [("StepStarted", 5), ("StepReady", 9)]
    assert step_ended(GRANT, ["x"], seen, Outputs({})) is None
    assert not list(step_facts(GRANT, ["x"], StepSeen(1)))
