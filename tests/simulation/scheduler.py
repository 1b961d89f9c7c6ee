"""One instance of the scheduler: its follower, its candidacy, its leading, around the real state and `decide`.

Mirrors services/scheduler/{wiring,following,leading,handlers}.py.
"""

import contextlib
from typing import Any

from services.scheduler.following import _OLDEST_LOOKED_AT
from services.scheduler.leading import CANDIDACIES
from services.scheduler.model import (
    Effect,
    JobGone,
    Landed,
    MachineHeard,
    RecordSeen,
    Resumed,
    TenantKnown,
)
from services.scheduler.policy import wake_at
from services.scheduler.state import Fact, State
from shared.errors import Unavailable
from shared.facts import AttemptAccepted, AttemptEnded, CancelRequested
from shared.tenancy import TenantRecord
from tests.simulation.checks import Checks
from tests.simulation.cores import RULES, TIMES, Cores
from tests.simulation.kernel import Group, Kernel, Party, Resume, Work, sleep
from tests.simulation.lease import Lease, LeaseKey
from tests.simulation.performing import Performer
from tests.simulation.streams import Net, Stored, Stream, Tail

_FACTS = frozenset((AttemptAccepted.token(), AttemptEnded.token(), CancelRequested.token()))
AUDIT_SECONDS = 40.0


class Scheduler(Party):
    def __init__(
        self,
        kernel: Kernel,
        name: str,
        net: Net,
        key: LeaseKey,
        cores: Cores,
        checks: Checks,
        tenants: list[TenantRecord],
        skew: float,
    ) -> None:
        super().__init__(kernel, name)
        self._net, self._key, self._cores, self._checks, self._tenants = net, key, cores, checks, tenants
        self.skew = skew
        self._heard = 0

    def start(self) -> None:
        super().start()
        self.note(None, "starts")
        self.state = State(RULES)
        self._lease = Lease(self._net, self._key, self._cores, f"{self.name}-{self.life}", TIMES.lease)
        self._reign: Group | None = None
        self._over: Resume = _nobody
        self.leads, self._decides, self._woken_at = False, False, 0.0
        self.term = 0
        self._seqs: dict[Stream, int] = dict.fromkeys((self._net.jobs, self._net.evt, self._net.metrics), 0)
        self.spawn(self._load())

    def _start_again(self, life: int) -> None:
        if life == self.life:
            self.start()

    def now(self) -> float:
        """Its wall clock."""
        return self.kernel.now + self.skew

    def hear(self, fact: Fact) -> None:
        self.state.apply(fact, self.now())
        self._heard += 1
        if self._heard % self._checks.every == 0:
            self._checks.state_is_sound(self.state, self)
        self._changed()

    def resumed(self) -> None:
        if self.alive:
            self.hear(Resumed())

    # Following

    def _load(self) -> Work:
        net = self._net
        try:
            yield from self._read_all()
            self.hear(Resumed())
            yield from self._catch_up()
        except Unavailable:
            # The process ends, and whoever supervises it starts it again.
            self.kill()
            self.kernel.after(1.0, self._start_again, self.life)
            return
        for stream, take in ((net.jobs, self._on_record), (net.evt, self._on_fact), (net.metrics, self._on_machine)):
            Tail(net, self, stream, self._seqs[stream] + 1, self._maybe_twice(take))
        self.after(AUDIT_SECONDS * (0.5 + self.kernel.chance()), self._audit)
        self.spawn(self._stand())

    def _read_all(self) -> Work:
        net = self._net
        for tenant in self._tenants:
            self.hear(TenantKnown(tenant.tenant, tenant))
        end, last = yield net.ask(lambda: (len(net.metrics.log), list(net.metrics.last.values())))
        self._seqs[net.metrics] = end
        for stored in last:
            self.hear(MachineHeard(stored.fact, min(self.now(), stored.at)))
        evt_end = yield net.ask(lambda: len(net.evt.log))
        end, last = yield net.ask(lambda: (len(net.jobs.log), list(net.jobs.last.values())))
        self._seqs[net.jobs] = end
        for stored in last:
            self._on_record(stored)
        yield from self._hear_cancels()
        oldest = yield from self._oldest_live_in_evt()
        self._seqs[net.evt] = min(oldest, evt_end + 1) - 1

    def _oldest_live_in_evt(self) -> Work:
        live = [job.record for job in self.state.jobs.values() if not job.record.ended]
        oldest = sorted(live, key=lambda record: record.created_unix_ns)[:_OLDEST_LOOKED_AT]
        keys = {(record.tenant, record.job) for record in oldest}
        evt = self._net.evt
        return (
            yield self._net.ask(
                lambda: min((stored.seq for stored in evt.log if stored.subject[:2] in keys), default=len(evt.log) + 1)
            )
        )

    def _hear_cancels(self) -> Work:
        evt = self._net.evt
        cancels = yield self._net.ask(
            lambda: [stored for stored in evt.last.values() if stored.subject[-1] == CancelRequested.token()]
        )
        for stored in cancels:
            job = self.state.jobs.get(stored.subject[:2])
            if job is not None and not job.record.ended:
                self.hear(stored.fact)

    def _catch_up(self) -> Work:
        for stream, take in ((self._net.jobs, self._on_record), (self._net.evt, self._on_fact)):
            from_seq = self._seqs[stream] + 1
            for stored in (yield self._net.ask(lambda stream=stream, from_seq=from_seq: stream.read(from_seq))):
                take(stored)

    def _maybe_twice(self, take: Any) -> Any:
        """A fact that comes again, later: State takes every fact in any order, also twice."""

        def taken(stored: Stored) -> None:
            take(stored)
            if self._net.weather.twice and self.kernel.chance() < self._net.weather.twice:
                self.after(20 * self.kernel.chance() ** 2, self._again, stored)

        return taken

    def _again(self, stored: Stored) -> None:
        fact = stored.fact
        if len(stored.subject) == 2:  # METRICS and JOBS alike
            fact = RecordSeen(fact, stored.seq) if hasattr(fact, "write_id") else MachineHeard(fact, self.now())
        elif stored.subject[-1] not in _FACTS:
            return
        self.hear(fact)

    def _on_record(self, stored: Stored) -> None:
        jobs = self._net.jobs
        self._seqs[jobs] = max(self._seqs[jobs], stored.seq)
        known = self.state.jobs.get(stored.subject)
        if known is None or known.seq < stored.seq:
            self.hear(RecordSeen(stored.fact, stored.seq))

    def _on_fact(self, stored: Stored) -> None:
        self._seqs[self._net.evt] = max(self._seqs[self._net.evt], stored.seq)
        if stored.subject[-1] in _FACTS:
            self.hear(stored.fact)

    def _on_machine(self, stored: Stored) -> None:
        self.hear(MachineHeard(stored.fact, self.now()))

    def _audit(self) -> None:
        self.spawn(self._compare())
        self.after(AUDIT_SECONDS, self._audit)

    def _compare(self) -> Work:
        jobs = self._net.jobs
        try:
            end, last = yield self._net.ask(lambda: (len(jobs.log), list(jobs.last.values())))
        except Unavailable:
            return
        for stored in last:
            self._on_record(stored)
        there = {stored.subject for stored in last}
        for key, job in tuple(self.state.jobs.items()):
            if key not in there and job.seq <= end:
                self.hear(JobGone(key, end))

    # Leading

    def _stand(self) -> Work:
        while True:
            term = None
            with contextlib.suppress(Unavailable):
                term = yield from self._lease.acquire(self.state.highest_term)
            if term is None:
                yield sleep(TIMES.lease / CANDIDACIES)
                continue
            reign = self._reign = Group()
            self.note(None, "holds the lease, term %s", term)
            self.spawn(self._keep(reign), reign)
            self.spawn(self._work(reign, term), reign, lambda _, error, reign=reign: self._broke_off(reign, error))
            yield (self._until_over, reign)
            yield from self._lease.release()

    def _until_over(self, _: Party, resume: Resume, reign: Group) -> None:
        if reign.over:
            resume(None, None)
        else:
            self._over = resume

    def _broke_off(self, reign: Group, error: BaseException | None) -> None:
        if isinstance(error, Unavailable):
            self._step_down(reign, str(error))
        elif error is not None:
            raise error

    def _step_down(self, reign: Group, why: str) -> None:
        if not reign.over:
            reign.over = True
            self.leads = False
            self._reign = None
            self.note(None, "leads no more: %s", why)
            self.state.abandon()
            self.after(0.0, self._over, None, None)

    def _keep(self, reign: Group) -> Work:
        while True:
            yield sleep(self._lease.pause)
            if not self._lease.holds() or not (yield from self._lease.renew()):
                self._step_down(reign, "its lease lapsed")
                return

    def _work(self, reign: Group, term: int) -> Work:
        yield from self._catch_up()
        orders = self._net.orders
        standing = yield self._net.ask(lambda: [(stored.fact, stored.seq) for stored in orders.last.values()])
        now = self.now()
        self.state.apply(Resumed(), now)
        for order in self._cores.take_over(self.state, standing, now):
            subject = (order.cluster, order.target, order.tenant, order.job)
            self.note((order.tenant, order.job), "purges an orphaned order on %s", order.target)
            yield self._net.ask(lambda subject=subject: orders.purge(subject))
        self.note(None, "leads, term %s: %s jobs, %s orders", term, len(self.state.jobs), len(standing))
        self._performer = Performer(self._net, self._cores, self, term)
        self.term = term
        self.leads, self._decides, self._woken_at = True, False, 0.0
        self._changed()

    def _changed(self) -> None:
        if self.leads and not self._decides:
            self._decides = True
            self.after(0.0, self._decide, self._reign)

    def _decide(self, reign: Group | None) -> None:
        self._decides = False
        if reign is None or reign.over or not self.leads:
            return
        if not self._lease.holds():
            self._step_down(reign, "its lease would lapse")
            return
        now = self.now()
        for effect in self._cores.decide(self.state, now):
            self.after(0.001 * self.kernel.chance(), self._begin, reign, effect)
        wake = max(0.001, min(wake_at(self.state) - now, TIMES.lease))
        if self._woken_at <= self.kernel.now or self._woken_at > self.kernel.now + wake:
            self._woken_at = self.kernel.now + wake
            self.after(wake, self._wake, reign)

    def _wake(self, reign: Group) -> None:
        if not reign.over:
            self._changed()

    def _begin(self, reign: Group, effect: Effect) -> None:
        if reign.over:
            return
        if not self._lease.holds():
            self._step_down(reign, "its lease would lapse")
            return
        self._checks.begins(self, effect, self._lease.truly_holds())
        self.spawn(self._performer.perform(effect), reign, lambda facts, error: self._landed(effect, facts, error))

    def _landed(self, effect: Effect, facts: list[Fact] | None, error: BaseException | None) -> None:
        if error is not None:
            if not isinstance(error, Unavailable):
                raise error
            self.hear(Landed(effect.key, failed=True))
            return
        for fact in facts or ():
            self.hear(fact)
        self.hear(Landed(effect.key))


def _nobody(_: Any, __: BaseException | None) -> None:
    """Nobody waits for a reign's end."""
