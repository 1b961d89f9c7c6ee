"""What always holds, whatever comes, twice, late, in any order, or not at all."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.scheduler.check import validate_state
from services.scheduler.model import MachineHeard, Move, RecordSeen, Rules
from shared.lifecycle import MAX_ATTEMPTS, JobState, Reason
from shared.placement import Amount, Target
from tests.unit.scheduler.town import Town, machine, record

LIMIT = 3
MACHINES = ("m1", "m2", "m3")
TENANTS = ("ann", "bob")


class Scheduling(RuleBasedStateMachine):
    """Drives the core with everything the bus may do to it."""

    def __init__(self) -> None:
        super().__init__()
        self.town = Town(Rules(starve_seconds=5, queue_timeout_seconds=10_000, keep_seconds=20_000))
        self.versions = dict.fromkeys(MACHINES, 0)
        self.undone: list[object] = []
        self.count = 0
        self.margin = 0
        """Placements of a deposed leader that were under way when its successor began: the stated margin."""

    @initialize()
    def limits(self) -> None:
        for tenant in TENANTS:
            self.town.limit(tenant, LIMIT)

    # The world.

    @rule(
        tenant=st.sampled_from(TENANTS),
        cpus=st.sampled_from([0.5, 1, 2, 4]),
        on_lost=st.sampled_from(["rerun", "rerun-fenced", "fail"]),
        priority=st.integers(-1, 1),
    )
    def submit(self, tenant: str, cpus: float, on_lost: str, priority: int) -> None:
        self.count += 1
        self.town.submit(
            record(f"j{self.count}", tenant, at=self.town.now, cpus=cpus, on_lost=on_lost, priority=priority)
        )

    @rule(name=st.sampled_from(MACHINES), state=st.sampled_from(["ready", "ready", "draining", "lost", "gone"]))
    def machine_changes(self, name: str, state: str) -> None:
        self.versions[name] += 1
        self.town.see(machine(name, version=self.versions[name], state=state, attempts=self.town.running()))

    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        keys = [k for k in sorted(self.town.jobs) if self._ordered(k)]
        if keys:
            self.town.accept(data.draw(st.sampled_from(keys)))

    def _ordered(self, key: tuple[str, str]) -> bool:
        told = self.town.record(key)
        return told.placement is not None and (Target("c", told.placement.target), key) in self.town.orders

    @rule(
        data=st.data(),
        end=st.sampled_from(
            [
                ("succeeded", Reason.ALL_STEPS_OK, 0),
                ("succeeded", Reason.ALL_STEPS_OK, None),
                ("failed", Reason.STEP_FAILED, 1),
                ("cancelled", Reason.CANCELLED, None),
                ("timed_out", Reason.TIMEOUT, None),
                ("error", Reason.SETUP_FAILED, None),
                ("error", Reason.RUNNER_LOST, None),
            ]
        ),
        older=st.integers(0, 2),
    )
    def attempt_ends(self, data: st.DataObject, end: tuple, older: int) -> None:
        keys = [k for k in sorted(self.town.jobs) if self._ordered(k) and self.town.record(k).epoch > older]
        if keys:
            key = data.draw(st.sampled_from(keys))
            self.town.end(key, *end, epoch=self.town.record(key).epoch - older)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.town.jobs:
            self.town.cancel(data.draw(st.sampled_from(sorted(self.town.jobs))))

    @rule(data=st.data())
    def a_fact_comes_again_and_late(self, data: st.DataObject) -> None:
        town = self.town
        facts = [
            *town.claims.values(),
            *town.ends.values(),
            *town.cancels.values(),
            *(MachineHeard(seen, town.now) for seen in town.machines.values()),
            *(RecordSeen(told, 1) for tolds in town.history.values() for told in tolds),
        ]
        if facts:
            town.hear(data.draw(st.sampled_from(facts)))

    # The leader.

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 20.0, 100.0]))
    def decide_and_perform(self, seconds: float) -> None:
        self.town.settle(seconds)

    @rule(
        seconds=st.sampled_from([0.0, 1.0, 15.0]),
        fates=st.lists(st.sampled_from(["done", "untold", "lost"]), max_size=8),
    )
    def decide_and_half_perform(self, seconds: float, fates: list[str]) -> None:
        from services.scheduler.model import Landed

        self.town.now += seconds
        for number, effect in enumerate(self.town.decide()):
            fate = fates[number] if number < len(fates) else "done"
            if fate == "lost":
                self.town.hear(Landed(effect.key, failed=True))
            else:
                self.town.perform(effect, told=fate == "done")

    @rule()
    def leader_dies_between_effects(self) -> None:
        effects = self.town.decide()
        for effect in effects[: len(effects) // 2]:
            self.town._done(effect)
        self.town.new_leader()

    @rule()
    def two_leaders_write(self) -> None:
        """A deposed leader's last write arrives after its successor began."""
        late = [effect for effect in self.town.decide() if isinstance(effect, Move)]
        self.town.new_leader()
        self.town.settle()
        for effect in late:
            before = self.town.record(effect.key)
            self.town._done(effect)
            now = self.town.record(effect.key)
            self.margin += before.state is JobState.QUEUED and now.state is JobState.PLACED
        for key, stored in sorted(self.town.jobs.items()):
            self.town.hear(RecordSeen(*stored))
            assert key in self.town.state.jobs

    # What must hold of what the streams say.

    @invariant()
    def state_is_sound(self) -> None:
        validate_state(self.town.state)

    @invariant()
    def never_success_without_an_exit_code(self) -> None:
        for key in self.town.jobs:
            told = self.town.record(key)
            if told.state is JobState.SUCCEEDED:
                assert told.exit_code is not None
                assert self.town.ends[*key, told.epoch].outcome == "succeeded"

    @invariant()
    def at_most_one_attempt_counts(self) -> None:
        for key, tolds in self.town.history.items():
            assert sum(told.state not in (JobState.QUEUED, JobState.PLACED) for told in tolds) <= 1, key
            epochs = [told.epoch for told in tolds]
            assert epochs == sorted(epochs)
            assert max(epochs) <= MAX_ATTEMPTS

    @invariant()
    def never_over_a_limit(self) -> None:
        for tenant in TENANTS:
            placed = [k for k in self.town.jobs if k[0] == tenant and self.town.record(k).state is JobState.PLACED]
            assert len(placed) <= LIMIT + self.margin

    @invariant()
    def never_placed_beyond_allocatable(self) -> None:
        for target, seen in self.town.machines.items() if not self.margin else ():
            taken = Amount(0, 0, 0)
            for told, _ in self.town.jobs.values():
                if told.state is JobState.PLACED and told.placement.target == target.machine:
                    taken = taken.plus(Amount.of(told.needs))
            assert taken.fits(Amount.of(seen.allocatable))

    @invariant()
    def an_ended_job_is_never_moved_again(self) -> None:
        for tolds in self.town.history.values():
            assert not any(told.ended for told in tolds[:-1])

    @precondition(lambda self: self.town.jobs)
    @rule()
    def whatever_can_run_runs(self) -> None:
        """Machines come back, attempts are accepted and succeed: nothing is left waiting."""
        town = self.town
        town.settle(10)
        for _ in range(MAX_ATTEMPTS * (len(town.jobs) + 1) + 20):
            for name in MACHINES:
                self.versions[name] += 1
                town.see(machine(name, version=self.versions[name], attempts=town.running()))
            town.settle(10)
            for key in sorted(town.jobs):
                told = town.record(key)
                if told.state is JobState.PLACED and self._ordered(key):
                    town.accept(key)
                    town.end(key, epoch=told.epoch)
            town.settle()
            if all(town.record(key).ended for key in town.jobs):
                break
        waiting = [town.record(key) for key in town.jobs if not town.record(key).ended]
        assert not waiting
        assert not town.orders
        assert town.done.keys() >= town.jobs.keys()


Scheduling.TestCase.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
test_whatever_comes = Scheduling.TestCase
