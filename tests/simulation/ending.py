"""What holds at the end of a history: SETTLED_SECONDS after the last fault at the latest."""

from typing import TYPE_CHECKING

from tests.simulation.checks import Broken
from tests.simulation.plan import SETTLED_SECONDS
from tests.simulation.projecting import one_verdict_everywhere

if TYPE_CHECKING:
    from tests.simulation.world import World

PROJECTED = 4
"""Of so many histories one is projected too."""


def check_end(world: "World") -> None:
    whatever_can_run_has_run(world)
    never_a_lost_job(world)
    no_order_is_left_standing(world)
    nothing_is_left_running(world)
    if world.plan.seed % PROJECTED == 0:
        one_verdict_everywhere(world.net, world.kernel, world.checks.ended)


def whatever_can_run_has_run(world: "World") -> None:
    """Liveness: every job that was admitted has ended, for a machine that could run it has lived on."""
    for key in world.jobs:
        if key not in world.checks.ended:
            stored = world.net.jobs.last.get(key)
            why = "was never admitted" if stored is None else f"is {stored.fact.state.value} still"
            raise Broken("whatever_can_run_has_run", key, f"{key[1]} {why} {SETTLED_SECONDS:g} s after the last fault")


def never_a_lost_job(world: "World") -> None:
    """Every admitted job has exactly one final record, and DONE has the same."""
    for key in world.jobs:
        record, done = world.checks.ended[key], world.net.done.last.get(key)
        if done is None or done.fact != record:
            raise Broken("never_a_lost_job", key, f"{record.state.value}, DONE has {done}")


def no_order_is_left_standing(world: "World") -> None:
    """ORDERS is empty once all jobs have ended (at the latest when their records have left JOBS)."""
    for subject in world.net.orders.last:
        raise Broken("no_order_is_left_standing", subject[2:], f"on {subject[1]}")


def nothing_is_left_running(world: "World") -> None:
    """No machine has a process, a claim or a directory of an attempt left."""
    for machine in world.machines.values():
        for key in machine.disk:
            raise Broken("nothing_is_left_running", (key.tenant, key.job), f"{key.name} is still on {machine.name}")
