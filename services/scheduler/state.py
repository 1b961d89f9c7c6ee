"""All that is known, and how each fact changes it. Pure and incremental: no fact costs more than what it concerns."""

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.scheduler.lanes import Lanes
from services.scheduler.model import (
    NS,
    ClusterKnown,
    DoneStands,
    ForgetAsked,
    Job,
    JobGone,
    Key,
    Landed,
    MachineHeard,
    OrderGone,
    OrdersRead,
    OrderStands,
    RecordSeen,
    Resumed,
    Rules,
    Standing,
    TenantKnown,
    Weighed,
)
from services.scheduler.usage import Usage
from shared.facts import AttemptAccepted, AttemptEnded, CancelRequested, JobRecord, MachineSeen
from shared.lifecycle import JobState
from shared.placement import Fleet, Target, machine_from, want_of
from shared.pods import KUBE
from shared.tenancy import ClusterRecord, PoolKind, TenantRecord

AttemptFact = AttemptAccepted | AttemptEnded | CancelRequested
Fact = (
    AttemptFact
    | RecordSeen
    | JobGone
    | MachineHeard
    | ClusterKnown
    | TenantKnown
    | OrderStands
    | OrderGone
    | OrdersRead
    | Weighed
    | DoneStands
    | ForgetAsked
    | Landed
    | Resumed
)

EARLY_JOBS = 10_000
"""Facts of jobs whose record we have not seen are kept for so many jobs; the oldest go first."""
MAX_BACKOFF_SECONDS = 5.0


class Tenant:
    """What a tenant may use, uses, and has waiting."""

    __slots__ = ("active", "closing", "held_at", "limit", "queued", "usage", "weight")

    def __init__(self, record: TenantRecord) -> None:
        self.weight = record.weight
        self.limit = record.limits.max_active_jobs
        self.closing = record.closing_unix is not None
        self.usage = Usage()
        self.active = 0
        self.queued: set[Key] = set()
        self.held_at = 0.0


class State:
    """`apply` takes facts in any order, also twice; `policy.decide` reads and launches."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.jobs: dict[Key, Job] = {}
        self.tenants: dict[str, Tenant] = {}
        self.fleet = Fleet()
        self.lanes = Lanes()
        self.placed_on: dict[Target, set[Key]] = {}
        self.machines: dict[Target, MachineHeard] = {}
        self.clusters: dict[str, ClusterRecord] = {}
        self.removed: set[str] = set()
        """Clusters whose record was deleted."""
        self.dirty: OrderedDict[Key, None] = OrderedDict()
        self.timers: list[tuple[float, Key]] = []
        self.sweep: OrderedDict[Key, None] = OrderedDict()
        self.in_flight = 0
        self.resumed_at = 0.0
        self.ticked_at = 0.0
        self.highest_term = 0
        self._early: OrderedDict[Key, list[AttemptFact]] = OrderedDict()
        self._take: dict[type[Fact], Callable[[Any, float], None]] = {
            RecordSeen: self._on_record,
            AttemptAccepted: self._on_attempt,
            AttemptEnded: self._on_attempt,
            CancelRequested: self._on_attempt,
            MachineHeard: self._on_machine,
            OrderStands: self._on_order,
            OrderGone: self._on_order_gone,
            OrdersRead: self._on_orders,
            Weighed: self._on_weighed,
            DoneStands: self._on_done,
            ForgetAsked: self._on_forget,
            Landed: self._on_landed,
            JobGone: self._on_gone,
            TenantKnown: self._on_tenant,
            ClusterKnown: self._on_cluster,
            Resumed: self._on_resumed,
        }

    def apply(self, fact: Fact, now: float) -> None:
        self._take[type(fact)](fact, now)

    def _on_order(self, fact: OrderStands, now: float) -> None:
        order = fact.order
        self.highest_term = max(self.highest_term, order.term)
        job, target = self.jobs.get((order.tenant, order.job)), Target(order.cluster, order.target)
        if job is None:
            return
        known = job.orders.get(target)
        if known is None or fact.seq > known.seq:
            job.orders[target] = Standing(order.epoch, order.desired, fact.seq, now)
            self.dirty[job.key] = None

    def _on_order_gone(self, fact: OrderGone, now: float) -> None:
        del now
        if job := self.jobs.get(fact.key):
            job.orders.pop(fact.target, None)
            self.dirty[fact.key] = None

    def _on_orders(self, fact: OrdersRead, now: float) -> None:
        job = self.jobs.get(fact.key)
        if job is not None:
            read = {Target(order.cluster, order.target): (order, seq) for order, seq in fact.orders}
            job.orders = {target: one for target, one in job.orders.items() if target in read}
            for order, seq in read.values():
                self._on_order(OrderStands(order, seq), now)

    def _on_weighed(self, fact: Weighed, now: float) -> None:
        del now
        job = self.jobs.get((fact.ended.tenant, fact.ended.job))
        if job is not None and job.record.epoch == fact.ended.epoch and not job.record.ended:
            job.ended[fact.ended.epoch] = fact.ended
            job.finished[fact.ended.epoch] = fact.finished
            self.dirty[job.key] = None

    def _on_done(self, fact: DoneStands, now: float) -> None:
        del now
        if job := self.jobs.get(fact.key):
            job.done = True
            self.dirty[fact.key] = None

    def _on_forget(self, fact: ForgetAsked, now: float) -> None:
        del now
        job = self.jobs.get(fact.key)
        if job is not None and not job.forget_asked:
            job.forget_asked = True
            self.dirty[fact.key] = None

    def is_unwanted(self, job: Job) -> bool:
        """The job or its whole tenant was deleted."""
        return job.forget_asked or self.tenant(job.record.tenant).closing

    def _on_gone(self, fact: JobGone, now: float) -> None:
        job = self.jobs.get(fact.key)
        if job is not None and job.seq <= fact.seq:
            self.forget(job, now)

    def _on_resumed(self, fact: Resumed, now: float) -> None:
        del fact
        self.resumed_at = now
        for key, job in self.jobs.items():
            if job.record.state is JobState.PLACED:
                self.dirty[key] = None

    def _on_record(self, fact: RecordSeen, now: float) -> None:
        record, seq = fact.record, fact.seq
        key = (record.tenant, record.job)
        self.highest_term = max(self.highest_term, record.term)
        job = self.jobs.get(key)
        if job is None:
            job = self.jobs[key] = Job(record, seq, want_of(record))
            self._remember_usage(record, now)
            self.settle(job, now)
            for early in self._early.pop(key, ()):
                self._on_attempt(early, now)
        elif seq > job.seq:
            if record.past_attempts != job.record.past_attempts:
                job.want = want_of(record)
            job.record, job.seq = record, seq
            if record.epoch and min(job.accepted.keys() | job.ended.keys(), default=record.epoch) < record.epoch:
                job.accepted = {epoch: who for epoch, who in job.accepted.items() if epoch >= record.epoch}
                job.ended = {epoch: end for epoch, end in job.ended.items() if epoch >= record.epoch}
                job.finished = {epoch: known for epoch, known in job.finished.items() if epoch >= record.epoch}
            job.missing, job.missing_since = False, None
            self.settle(job, now)
        self.dirty[key] = None

    def _remember_usage(self, record: JobRecord, now: float) -> None:
        if record.placed_unix_ns is not None:
            end = now if record.ended_unix_ns is None else record.ended_unix_ns / NS
            self.tenant(record.tenant).usage.remember(
                want_of(record).needs, record.placed_unix_ns / NS, end, now, self.rules.half_life_seconds
            )

    def _on_attempt(self, fact: AttemptFact, now: float) -> None:
        del now
        key = (fact.tenant, fact.job)
        job = self.jobs.get(key)
        if job is None:
            self._keep_early(key, fact)
            return
        if job.record.ended:
            return
        if isinstance(fact, AttemptAccepted):
            job.accepted_unix_ns.setdefault(fact.epoch, fact.at_unix_ns)
        match fact:
            case CancelRequested():
                job.cancel_asked = True
            case AttemptAccepted() if fact.epoch >= job.record.epoch:
                job.accepted.setdefault(fact.epoch, Target(fact.cluster, fact.machine))
            case AttemptEnded() if fact.epoch >= job.record.epoch:
                job.ended.setdefault(fact.epoch, fact)
            case _:
                return
        self.dirty[key] = None

    def _keep_early(self, key: Key, fact: AttemptFact) -> None:
        self._early.setdefault(key, []).append(fact)
        if len(self._early) > EARLY_JOBS:
            self._early.popitem(last=False)

    def _on_machine(self, heard: MachineHeard, now: float) -> None:
        del now
        target = Target(heard.seen.cluster, heard.seen.machine)
        known = self.machines.get(target)
        late = known is not None and known.seen.version > heard.seen.version
        if known is not None and late and heard.at - known.at < self.rules.suspect_seconds:
            return
        self.machines[target] = heard
        if self._put_machine(heard.seen):
            self.lanes.reopen()
            self.dirty.update(dict.fromkeys(sorted(self._depending_on(target))))
        if heard.seen.isolation != "pod":  # what became of pods, their controller knows
            self._look_for_missing(target, heard)

    def _depending_on(self, target: Target) -> set[Key]:
        """Jobs whose attempt is lost when this machine is."""
        if target.machine != KUBE:
            return self.placed_on.get(target, set())
        return {key for room, keys in self.placed_on.items() if room.cluster == target.cluster for key in keys}

    def _put_machine(self, seen: MachineSeen) -> bool:
        record = self.clusters.get(seen.cluster)
        kinds: dict[str, PoolKind] = {pool.pool: pool.kind for pool in record.pools} if record else {}
        tenants = record.tenants if record else None
        machine = machine_from(seen, kinds.get(seen.pool, "agents"), tenants)
        closed = seen.cluster in self.removed or (record is not None and record.cordoned)
        return self.fleet.put(replace(machine, state="draining") if closed and machine.state == "ready" else machine)

    def _look_for_missing(self, target: Target, heard: MachineHeard) -> None:
        here = self.placed_on.get(target)
        if not here:
            return
        listed = {(one.tenant, one.job, one.epoch) for one in heard.seen.attempts}
        for key in sorted(here):
            job = self.jobs[key]
            if (*key, job.record.epoch) in listed or job.record.epoch not in job.accepted:
                job.missing_since, job.missing = None, False
            elif job.missing_since is None:
                job.missing_since = heard.at
            elif heard.at - job.missing_since >= self.rules.missing_seconds and not job.missing:
                job.missing = True
                self.dirty[key] = None

    def _on_landed(self, fact: Landed, now: float) -> None:
        key, job = fact.key, self.jobs.get(fact.key)
        if job is None or not job.in_flight:
            return
        job.in_flight, job.unsure = False, fact.failed
        self.in_flight -= 1
        if not fact.failed:
            job.placing = None  # else its place stays reserved: it may be there
        if fact.failed:
            job.failures += 1
            job.retry_at = now + min(0.1 * 2 ** min(job.failures, 10), MAX_BACKOFF_SECONDS)
        else:
            job.failures, job.retry_at = 0, 0.0
        self.settle(job, now)
        self.dirty[key] = None

    def _on_tenant(self, fact: TenantKnown, now: float) -> None:
        del now
        record = fact.record or TenantRecord(tenant=fact.tenant)
        tenant = self.tenant(fact.tenant)
        tenant.weight, tenant.limit = record.weight, record.limits.max_active_jobs
        if record.closing_unix is not None and not tenant.closing:
            self.dirty.update(dict.fromkeys(key for key in self.jobs if key[0] == fact.tenant))
        tenant.closing = record.closing_unix is not None
        self.lanes.reopen()

    def _on_cluster(self, fact: ClusterKnown, now: float) -> None:
        del now
        cluster = fact.cluster
        if fact.record is None:
            self.clusters.pop(cluster, None)
            self.removed.add(cluster)
        else:
            self.removed.discard(cluster)
            self.clusters[cluster] = fact.record
        changed = [
            self._put_machine(heard.seen)
            for target, heard in sorted(self.machines.items())
            if target.cluster == cluster
        ]
        if any(changed):
            self.lanes.reopen()

    def tenant(self, name: str) -> Tenant:
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = Tenant(TenantRecord(tenant=name))
        return tenant

    def settle(self, job: Job, now: float) -> None:
        """Bring every index into line with the job's record and what is in flight."""
        tenant, key, needs = self.tenant(job.record.tenant), job.key, job.want.needs
        queued, placed = job.record.state is JobState.QUEUED, job.record.state is JobState.PLACED
        wanted = job.room if placed else job.placing if queued else None
        if wanted != job.reserved:
            half_life = self.rules.half_life_seconds
            if job.reserved is not None:
                self.fleet.release(job.reserved, needs)
                self.placed_on[job.reserved].discard(key)
                if not self.placed_on[job.reserved]:
                    del self.placed_on[job.reserved]
                tenant.usage.stop(needs, now, half_life)
                tenant.active -= 1
                self.lanes.reopen()
            if wanted is not None:
                self.fleet.reserve(wanted, needs)
                self.placed_on.setdefault(wanted, set()).add(key)
                tenant.usage.start(needs, now, half_life)
                tenant.active += 1
            job.reserved = wanted
        if queued:
            tenant.queued.add(key)
            self.sweep.setdefault(key)
        else:
            tenant.queued.discard(key)
            self.sweep.pop(key, None)
        if not queued or job.in_flight or job.unsure:
            self.lanes.remove(key)
        if not queued and not self.lanes.has(job.want) and self.fleet.unhold(job.want):
            self.lanes.reopen()

    def launch(self, job: Job, now: float, placing: Target | None = None) -> None:
        """An effect for this job goes out."""
        job.in_flight, job.placing = True, placing
        self.in_flight += 1
        self.settle(job, now)

    def abandon(self) -> None:
        """Whatever was in flight is no longer ours; what it did is read back before anything else."""
        for key, job in self.jobs.items():
            job.unsure = job.unsure or job.in_flight
            job.in_flight, job.retry_at = False, 0.0
            self.dirty[key] = None
        self.in_flight = 0

    def forget(self, job: Job, now: float) -> None:
        if job.in_flight:
            self.in_flight -= 1
        job.in_flight, job.placing = False, None
        job.record = job.record.model_copy(update={"state": JobState.ERROR})
        self.settle(job, now)
        del self.jobs[job.key]
        self.dirty.pop(job.key, None)

    def wake(self, job: Job, at: float) -> None:
        """Look at the job again at this time, or before."""
        if job.wake_at is None or at < job.wake_at:
            job.wake_at = at
            heapq.heappush(self.timers, (at, job.key))

    def next_timer(self) -> float | None:
        return self.timers[0][0] if self.timers else None

    def fire_timers(self, now: float) -> None:
        while self.timers and self.timers[0][0] <= now:
            key = heapq.heappop(self.timers)[1]
            if job := self.jobs.get(key):
                job.wake_at = None
                self.dirty[key] = None
