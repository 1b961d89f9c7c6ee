"""A scheduler's core with a stage around it: streams as dicts, edges as calls. No bus, no clock."""

from dataclasses import dataclass, field

from services.scheduler.check import validate_state
from services.scheduler.evidence import end_of_lost, finished
from services.scheduler.model import (
    NS,
    DoneStands,
    Effect,
    EndAttempt,
    GiveOrder,
    JobGone,
    Key,
    Landed,
    MachineHeard,
    Move,
    OrderGone,
    OrdersRead,
    OrderStands,
    PurgeJob,
    PurgeOrder,
    ReadBack,
    RecordSeen,
    Rules,
    TenantKnown,
    Weigh,
    Weighed,
    WriteDone,
)
from services.scheduler.policy import decide
from services.scheduler.state import Fact, State
from services.scheduler.takeover import take_over
from shared.facts import (
    AttemptAccepted,
    AttemptEnded,
    CancelRequested,
    Desired,
    JobRecord,
    MachineSeen,
    Order,
    StepEnded,
)
from shared.facts.attempt import Outcome
from shared.facts.machine import Running
from shared.lifecycle import MOVES, JobState, Reason
from shared.needs import GIB, Capacity, Needs
from shared.placement import Target
from shared.tenancy import TenantLimits, TenantRecord

RULES = Rules()


def record(job: str = "j", tenant: str = "t", *, at: float = 1000.0, cpus: float = 1, **about: object) -> JobRecord:
    values: dict[str, object] = {
        "tenant": tenant,
        "job": job,
        "name": "build",
        "state": JobState.QUEUED,
        "created_unix_ns": int(at * NS),
        "content_hash": "0" * 64,
        "needs": Needs(cpu_millis=int(cpus * 1000), memory_bytes=GIB, disk_bytes=GIB),
        "timeout_seconds": 600.0,
        "step_count": 1,
        "submitted_by": "test",
        "write_id": "w0",
        **about,
    }
    return JobRecord.model_validate(values)


def machine(
    name: str = "m", *, version: int = 1, state: str = "ready", cpus: float = 4, **about: object
) -> MachineSeen:
    values: dict[str, object] = {
        "cluster": "c",
        "machine": name,
        "pool": "default",
        "version": version,
        "state": state,
        "isolation": "process",
        "labels": [],
        "arch": "amd64",
        "allocatable": Capacity(cpu_millis=int(cpus * 1000), memory_bytes=64 * GIB, disk_bytes=640 * GIB),
        "attempts": [],
        "session": "s",
        "seen_unix_ns": 0,
        **about,
    }
    return MachineSeen.model_validate(values)


@dataclass
class Town:
    """JOBS, ORDERS, DONE and EVT as dicts, and a leader. `perform` is what Performer is, without a bus."""

    rules: Rules = RULES
    now: float = 1000.0
    seq: int = 0
    jobs: dict[Key, tuple[JobRecord, int]] = field(default_factory=dict)
    orders: dict[tuple[Target, Key], tuple[Order, int]] = field(default_factory=dict)
    done: dict[Key, JobRecord] = field(default_factory=dict)
    ends: dict[tuple[str, str, int], AttemptEnded] = field(default_factory=dict)
    claims: dict[tuple[str, str, int], AttemptAccepted] = field(default_factory=dict)
    cancels: dict[Key, CancelRequested] = field(default_factory=dict)
    steps: list[StepEnded] = field(default_factory=list)
    machines: dict[Target, MachineSeen] = field(default_factory=dict)
    tenants: list[TenantKnown] = field(default_factory=list)
    history: dict[Key, list[JobRecord]] = field(default_factory=dict)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(self.rules)

    # What others write.

    def submit(self, told: JobRecord) -> Key:
        key = (told.tenant, told.job)
        self._store(told)
        self.hear(RecordSeen(*self.jobs[key]))
        return key

    def limit(self, tenant: str, jobs: int, weight: float = 1.0) -> None:
        limits = TenantLimits(max_active_jobs=jobs)
        self.tenants.append(TenantKnown(tenant, TenantRecord(tenant=tenant, limits=limits, weight=weight)))
        self.hear(self.tenants[-1])

    def see(self, seen: MachineSeen) -> None:
        self.machines[Target(seen.cluster, seen.machine)] = seen
        self.hear(MachineHeard(seen, self.now))

    def accept(self, key: Key, epoch: int | None = None, where: str | None = None) -> bool:
        """Whether this was the first claim."""
        now, order = self._order(key, epoch, where)
        if (*key, order.epoch) in self.claims:
            return False
        fact = AttemptAccepted(
            tenant=key[0],
            job=key[1],
            epoch=order.epoch,
            at_unix_ns=now,
            cluster=order.cluster,
            machine=order.target,
        )
        self.claims[(*key, order.epoch)] = fact
        self.hear(fact)
        return True

    def end(
        self,
        key: Key,
        outcome: Outcome = "succeeded",
        reason: Reason = Reason.ALL_STEPS_OK,
        exit_code: int | None = 0,
        *,
        epoch: int | None = None,
        step: int | None = None,
    ) -> bool:
        """Whether this was the first to tell."""
        epoch = epoch if epoch is not None else self.record(key).epoch
        if (*key, epoch) in self.ends:
            return False
        fact = AttemptEnded(
            tenant=key[0],
            job=key[1],
            epoch=epoch,
            at_unix_ns=int(self.now * NS),
            outcome=outcome,
            reason=reason,
            exit_code=exit_code,
            step=step,
        )
        self.ends[(*key, epoch)] = fact
        self.hear(fact)
        return True

    def cancel(self, key: Key) -> None:
        fact = CancelRequested(tenant=key[0], job=key[1], by="test", at_unix_ns=int(self.now * NS))
        self.cancels.setdefault(key, fact)
        self.hear(fact)

    def _order(self, key: Key, epoch: int | None, where: str | None) -> tuple[int, Order]:
        placement = self.record(key).placement
        assert placement is not None
        target = Target("c", where or placement.target)
        order = self.orders[target, key][0]
        assert epoch is None or order.epoch == epoch
        return int(self.now * NS), order

    # What the leader does.

    def hear(self, fact: Fact) -> None:
        self.state.apply(fact, self.now)

    def decide(self) -> list[Effect]:
        effects = decide(self.state, self.now)
        validate_state(self.state)
        return effects

    def settle(self, seconds: float = 0.0) -> None:
        """Let time pass, then decide and perform until nothing is left to do."""
        self.now += seconds
        while effects := self.decide():
            for effect in effects:
                self.perform(effect)
        validate_state(self.state)

    def perform(self, effect: Effect, *, told: bool = True) -> None:
        """`told` False: it happened, and nobody learned that it did."""
        facts = self._done(effect)
        if told:
            for fact in facts:
                self.hear(fact)
            self.hear(Landed(effect.key))
        else:
            self.hear(Landed(effect.key, failed=True))

    def _done(self, effect: Effect) -> list[Fact]:  # noqa: C901, PLR0911 - one for each effect
        match effect:
            case Move(told, expect_seq):
                key = effect.key
                if key not in self.jobs:
                    return [JobGone(key, expect_seq)]
                if self.jobs[key][1] == expect_seq:
                    self._store(told.model_copy(update={"write_id": f"w{self.seq}"}))
                return [RecordSeen(*self.jobs[key])]
            case ReadBack(key, seq):
                standing = tuple(stored for (_, of), stored in self.orders.items() if of == key)
                record = RecordSeen(*self.jobs[key]) if key in self.jobs else JobGone(key, seq)
                return [record, OrdersRead(key, standing)]
            case Weigh(ended, told):
                return [Weighed(end_of_lost(ended, told, self.steps), finished(ended, told, self.steps))]
            case GiveOrder(order, expect_seq):
                place = (Target(order.cluster, order.target), effect.key)
                if (self.orders[place][1] if place in self.orders else 0) == expect_seq:
                    self.seq += 1
                    self.orders[place] = (order, self.seq)
                return [OrderStands(*self.orders[place])] if place in self.orders else [OrderGone(effect.key, place[0])]
            case EndAttempt(ended, about, unless):
                return [self._given_up(ended, about, unless)]
            case WriteDone(told):
                self.done[effect.key] = told
                return [DoneStands(effect.key)]
            case PurgeOrder(key, target):
                self.orders.pop((target, key), None)
                return [OrderGone(key, target)]
            case PurgeJob(key, seq, _):
                self.jobs.pop(key, None)
                return [JobGone(key, seq)]

    def _given_up(self, ended: AttemptEnded, about: JobRecord, unless: str) -> Fact:
        attempt = (ended.tenant, ended.job, ended.epoch)
        if unless == "accepted" and attempt in self.claims:
            return self.claims[attempt]
        if unless == "finished" and ended.outcome == "error":
            ended = end_of_lost(ended, about, self.steps)
        return self.ends.setdefault(attempt, ended)

    def _store(self, told: JobRecord) -> None:
        self.seq += 1
        key = (told.tenant, told.job)
        before = self.jobs.get(key)
        assert before is None or told.state in MOVES[before[0].state]
        self.jobs[key] = (told, self.seq)
        self.history.setdefault(key, []).append(told)

    def new_leader(self) -> None:
        """Everything in memory is lost; the streams are read anew, as Follower and Leader do it."""
        self.state = State(self.rules)
        for known in self.tenants:
            self.hear(known)
        for seen in self.machines.values():
            self.hear(MachineHeard(seen, self.now))
        for stored in self.jobs.values():
            self.hear(RecordSeen(*stored))
        for fact in (*self.cancels.values(), *self.claims.values(), *self.ends.values()):
            self.hear(fact)
        take_over(self.state, list(self.orders.values()), self.now)

    # What is there.

    def record(self, key: Key) -> JobRecord:
        return self.jobs[key][0]

    def desired(self, key: Key) -> dict[str, tuple[int, Desired]]:
        """Standing orders by machine: (epoch, desired)."""
        return {
            target.machine: (order.epoch, order.desired)
            for (target, of), (order, _) in sorted(self.orders.items())
            if of == key
        }

    def running(self, *names: str) -> list[Running]:
        return [Running(tenant=t, job=j, epoch=e) for t, j, e in self.claims if (t, j, e) not in self.ends]
