"""Facts in, the same picture whichever way they came."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overspill.view.screen import Screen, fold, opening

JOB = {"id": "j", "name": "build", "steps": [{"step": n, "name": f"s{n}"} for n in (1, 2, 3)]}
START = opening(JOB)


def record(state: str, epoch: int, **more: Any) -> tuple[str, int, dict[str, Any]]:
    return "job.recorded", epoch, {"state": state, "epoch": epoch, **more}


def started(step: int, epoch: int = 1) -> tuple[str, int, dict[str, Any]]:
    return "step.started", epoch, {"step": step, "name": f"s{step}", "at_unix_ns": step * 10**9}


def ended(step: int, epoch: int = 1, **more: Any) -> tuple[str, int, dict[str, Any]]:
    data = {"step": step, "state": "exited", "verdict": "ok", "exit_code": 0, "duration_seconds": 1.0}
    return "step.ended", epoch, data | more


def seen(*facts: tuple[str, int, dict[str, Any]]) -> Screen:
    screen = START
    for fact in facts:
        screen = fold(screen, *fact)
    return screen


STORY = (
    record("queued", 0),
    record("placed", 1, placement={"target": "m"}),
    ("attempt.accepted", 1, {"machine": "m"}),
    ("attempt.started", 1, {"machine": "m"}),
    started(1),
    ended(1),
    started(2),
    ended(2, verdict="failed", exit_code=7),
    ended(3, state="skipped", exit_code=None),
    ("attempt.ended", 1, {}),
    record("failed", 1, reason="step_failed", message="s2 failed", exit_code=7),
)


def test_a_job_from_queued_to_its_verdict() -> None:
    screen = seen(*STORY)
    assert [step.state for step in screen.steps] == ["ok", "failed", "skipped"]
    assert screen.steps[1].detail == "exit code 7"
    assert screen.ending is not None
    assert (screen.ending.state, screen.machine) == ("failed", "m")


@given(st.permutations(STORY), st.lists(st.sampled_from(STORY)))
def test_the_end_is_the_same_in_any_order_and_told_twice(order: list[Any], again: list[Any]) -> None:
    screen, expected = seen(*order, *again), seen(*STORY)
    assert [(step.state, step.detail) for step in screen.steps] == [
        (step.state, step.detail) for step in expected.steps
    ]
    assert screen.ending == expected.ending


def test_a_new_attempt_begins_anew_and_the_old_one_changes_nothing_any_more() -> None:
    screen = seen(started(1), ended(1), started(2), record("queued", 1), record("placed", 2), ended(2), started(1, 2))
    assert [step.state for step in screen.steps] == ["running", "pending", "pending"]
    assert screen.epoch == 2


@pytest.mark.parametrize(
    ("how", "detail"),
    [
        ({"state": "signaled", "signal": 11, "verdict": "failed"}, "killed by signal 11"),
        ({"state": "signaled", "killed_for": "memory", "verdict": "failed"}, "out of memory"),
        ({"state": "timed_out", "verdict": "failed"}, "timed out"),
        ({"exit_code": 3}, "exit code 3, which does not count"),
        ({"state": "not_started", "verdict": "failed", "message": "no such program"}, "no such program"),
        ({}, ""),
    ],
)
def test_why_a_step_is_not_ok_is_said_in_words(how: dict[str, Any], detail: str) -> None:
    assert seen(started(1), ended(1, **how)).steps[0].detail == detail


def test_a_step_the_spec_does_not_know_is_passed_over() -> None:
    assert seen(started(9)).steps == seen().steps
