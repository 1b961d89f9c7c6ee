"""Cores that are broken on purpose are caught, each by the property that speaks of what it breaks."""

from dataclasses import replace
from typing import Any

import pytest

from runner.agent.model import Claim, End
from runner.agent.policy import reconcile
from runner.step_ctl.policy import Verdict, verdict
from services.scheduler.model import GiveOrder, Move
from services.scheduler.policy import _order, decide
from services.scheduler.takeover import take_over
from shared.facts import Desired
from shared.lifecycle import JobState, Reason
from shared.placement import Target
from tests.simulation.cores import REAL, RULES, Cores
from tests.simulation.many import run_many

SEEDS = 300
"""A broken core is caught within so many histories."""


def _places(effect: Any) -> bool:
    return isinstance(effect, Move) and effect.record.state is JobState.PLACED and not effect.record.cancel_requested


def order_first(state: Any, now: float) -> list:
    """Gives the order, then writes the record."""
    effects = []
    for effect in decide(state, now):
        if _places(effect):
            record = effect.record
            target = Target(record.placement.cluster, record.placement.target)
            order = _order(state, state.jobs[effect.key], target, record.epoch, Desired.RUN)
            effects.append(GiveOrder(order, 0))
        effects.append(effect)
    return effects


def keep_the_epoch(state: Any, now: float) -> list:
    """Tries again under the number of the attempt before."""
    return [
        Move(effect.record.model_copy(update={"epoch": effect.record.epoch - 1}), effect.expect_seq)
        if _places(effect) and effect.record.epoch > 1
        else effect
        for effect in decide(state, now)
    ]


def forget_the_fence(state: Any, now: float) -> list:
    """Tries fenced jobs again at once."""
    state.rules = replace(RULES, fence_margin_seconds=-RULES.fence_seconds)
    return decide(state, now)


def judge_early(state: Any, now: float) -> list:
    """Takes what became of the first attempt for what became of the second."""
    return [
        Move(effect.record.model_copy(update={"state": JobState.FAILED, "ended_unix_ns": 1}), effect.expect_seq)
        if isinstance(effect, Move) and effect.record.cancel_requested and effect.record.state is JobState.PLACED
        else effect
        for effect in decide(state, now)
    ]


def give_up_early(state: Any, now: float) -> list:
    """Tries nothing again."""
    return [
        Move(effect.record.model_copy(update={"state": JobState.ERROR, "reason": past[-1].reason}), effect.expect_seq)
        if isinstance(effect, Move) and (past := effect.record.past_attempts)
        else effect
        for effect in decide(state, now)
    ]


def no_limits(state: Any, now: float) -> list:
    for tenant in state.tenants.values():
        tenant.limit = 1_000_000
    return decide(state, now)


def no_reservations(state: Any, now: float) -> list:
    state.fleet.free = lambda machine: machine.allocatable
    return decide(state, now)


def all_is_done(state: Any, orders: Any, now: float) -> list:
    """A new leader that takes every ended job for written to DONE."""
    orphans = take_over(state, orders, now)
    for job in state.jobs.values():
        job.done = job.record.ended
    return orphans


def claim_all(view: Any) -> list:
    """Takes orders whether there is room or not."""
    effects = list(reconcile(view))
    taken = {effect.order.job for effect in effects if isinstance(effect, Claim)}
    known = {local.key for local in view.locals} | view.settled
    new = [order for key, order in sorted(view.orders.items(), key=lambda item: item[0]) if key not in known]
    return [*effects, *(Claim(o) for o in new if o.desired is Desired.RUN and o.job not in taken and not view.draining)]


def end_nothing(view: Any) -> list:
    """Lets run on what is cancelled, or of an older epoch."""
    return [effect for effect in reconcile(view) if not isinstance(effect, End)]


def missing_is_success(seen: Any, attempt: Any) -> Verdict | None:
    told = verdict(seen, attempt)
    lost = told is not None and told.reason is Reason.RUNNER_LOST
    return Verdict("succeeded", Reason.ALL_STEPS_OK, exit_code=0) if lost else told


MUTANTS: dict[str, Cores] = {
    "a_recorded_last_exit_code_is_never_run_again": replace(
        REAL, finished=lambda *_: False, end_of_lost=lambda ended, *_: ended
    ),
    "nothing_is_left_running": replace(REAL, reconcile=end_nothing),
    "an_order_follows_its_placement": replace(REAL, decide=order_first),
    "a_leader_begins_nothing_once_its_lease_lapsed": replace(REAL, lease_holds=lambda _now, _until: True),
    "never_success_without_an_exit_code": replace(REAL, verdict=missing_is_success),
    "never_over_a_tenants_limit": replace(REAL, decide=no_limits),
    "never_over_a_machines_room": replace(REAL, decide=no_reservations),
    "machine_has_room": replace(
        REAL,
        decide=no_reservations,
        reconcile=claim_all,
        unwatched=frozenset({"never_over_a_machines_room"}),
    ),
    "fenced_attempts_never_overlap": replace(REAL, decide=forget_the_fence),
    "epochs_only_grow": replace(REAL, decide=keep_the_epoch),
    "a_verdict_is_that_of_its_attempt": replace(REAL, decide=judge_early),
    "no_job_is_given_up_early": replace(REAL, decide=give_up_early),
    "never_a_lost_job": replace(REAL, take_over=all_is_done),
}


@pytest.mark.parametrize("promise", MUTANTS)
def test_a_broken_core_is_caught_by_the_property_it_breaks(promise: str) -> None:
    caught = set()
    for history in run_many(range(SEEDS), MUTANTS[promise]):
        assert history.broken is not None
        caught.add(history.broken.promise)
        if promise in caught:
            return
    pytest.fail(f"within {SEEDS} histories nothing broke {promise}, only {caught}")
