"""One history: everything wired, faults injected, the end awaited, the properties of the end checked."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from shared.errors import Unavailable
from shared.facts import CancelRequested, Order
from shared.tenancy import TenantLimits, TenantRecord
from tests.simulation.checks import Broken, Checks
from tests.simulation.cores import REAL, TIMES, Cores
from tests.simulation.ending import check_end
from tests.simulation.kernel import START, Kernel, Party, sleep
from tests.simulation.lease import LeaseKey
from tests.simulation.machine import Machine
from tests.simulation.metrics import Metrics
from tests.simulation.plan import NS, SETTLED_SECONDS, TROUBLE_SECONDS, Fault, JobPlan, Plan, capacity, plan
from tests.simulation.scheduler import Scheduler
from tests.simulation.streams import FINE, Net, Stored, Tail


class World:
    def __init__(self, told: Plan, cores: Cores = REAL) -> None:
        self.plan = told
        self.kernel = kernel = Kernel(told.seed)
        kernel.random = Random(told.seed + 1)
        kernel.chance = kernel.random.random
        self.net = net = Net(kernel, told.weather)
        names = [f"m{number}" for number in range(len(told.cpus))]
        capacities = {name: capacity(cpus) for name, cpus in zip(names, told.cpus, strict=True)}
        self.checks = Checks(kernel, net, told.limits, capacities, every=1 if told.seed % 32 == 0 else 24)
        self.checks.unwatched = cores.unwatched
        tenants = [
            TenantRecord(tenant=name, limits=TenantLimits(max_active_jobs=limit)) for name, limit in told.limits.items()
        ]
        self.key = LeaseKey(kernel)
        self.schedulers = [
            Scheduler(kernel, f"scheduler-{'abc'[i]}", net, self.key, cores, self.checks, tenants,
                      told.skews[i] * TIMES.wall_skew)
            for i in range(told.schedulers)
        ]  # fmt: skip
        self.metrics = Metrics(kernel, net)
        self.jobs = {job.key: job for job in told.jobs}
        self.machines = {
            name: Machine(kernel, name, capacities[name], net, cores, self.checks, self.jobs) for name in names
        }
        self.gateway = Party(kernel, "gateway")
        self._copier = Party(kernel, "EVT")
        self._copied = 0
        self._wire()

    def _wire(self) -> None:
        for machine in self.machines.values():
            machine.standing_orders = self._orders_of(machine)
            machine.send_beat = self._beats_of(machine)
        self.net.orders.on_store.append(self._republish)

    def _orders_of(self, machine: Machine) -> Callable[[], list[Order]]:
        """edge.….orders, answered by any instance from the stream: mirrors services/scheduler/handlers.py."""
        orders, now = self.net.orders, self.kernel

        def told() -> list[Order]:
            if not any(
                scheduler.alive and scheduler.frozen_until <= now.now and self.net.reaches(scheduler)
                for scheduler in self.schedulers
            ):
                raise Unavailable(what="orders", why="nobody serves it")
            return [stored.fact for subject, stored in orders.last.items() if subject[1] == machine.name]

        return told

    def _beats_of(self, machine: Machine) -> Callable[[object], None]:
        def send(beat: object) -> None:
            if self.kernel.now >= machine.beats_lost_until:
                self.net.push(self.metrics, self.metrics.on_beat, beat)

        return send

    def _republish(self, stored: Stored, _: Stored | None) -> None:
        machine = self.machines[stored.fact.target]
        if machine.agent.alive:
            self.net.push(machine.agent, machine.agent.on_desired, stored.fact)

    # The history

    def run(self) -> None:
        """Raises Broken."""
        kernel = self.kernel
        for party in (self.gateway, self._copier, *self.schedulers, self.metrics):
            party.start()
        for machine in self.machines.values():
            machine.agent.start()
        Tail(self.net, self._copier, self.net.jobs, 1, self._copy)
        for job in self.plan.jobs:
            self.gateway.after(job.at, self._submit, job)
            if job.cancel_at is not None:
                self.gateway.after(job.at + job.cancel_at, self._cancel, job)
        for fault in self.plan.faults:
            kernel.after(fault.at, self._inject, fault)
        kernel.after(TROUBLE_SECONDS, self._calm)
        kernel.run(START + TROUBLE_SECONDS, lambda: False)
        kernel.run(START + TROUBLE_SECONDS + SETTLED_SECONDS, self._settled)
        check_end(self)

    def _copy(self, stored: Stored) -> None:
        """EVT sources JOBS."""
        self.net.evt.store(self.kernel, (*stored.subject, "record"), stored)
        self._copied = stored.seq

    def _submit(self, job: JobPlan) -> None:
        def work() -> object:
            while True:
                try:
                    yield self.net.publish(self.net.jobs, job.key, job.record, 0)
                except Unavailable:
                    yield sleep(1.0)
                    if job.key in self.net.jobs.last:
                        return
                else:
                    return

        self.gateway.note(job.key, "admits it: %s steps, on-lost %s", len(job.steps), job.record.on_lost)
        self.gateway.spawn(work(), then=lambda *_: None)

    def _cancel(self, job: JobPlan) -> None:
        fact = CancelRequested(
            tenant=job.record.tenant, job=job.record.job, by="x", at_unix_ns=int((self.kernel.now - START) * NS)
        )

        def work() -> object:
            while True:
                try:
                    yield self.net.publish(self.net.evt, (*job.key, 0, fact.token()), fact, None)
                except Unavailable:
                    yield sleep(1.0)
                else:
                    return

        self.gateway.note(job.key, "asks to cancel")
        self.gateway.spawn(work())

    # Faults

    def _inject(self, fault: Fault) -> None:
        self.kernel.note("FAULT", None, "%s, number %s, %.1f s", fault.kind, fault.who, fault.seconds)
        getattr(self, f"_{fault.kind}")(fault)

    def _leader(self) -> Scheduler:
        leaders = [scheduler for scheduler in self.schedulers if scheduler.alive and scheduler.leads]
        return leaders[0] if leaders else self.schedulers[0]

    def _one(self, fault: Fault) -> Machine:
        """Faults seek machines that have something to do."""
        busy = [machine for machine in self.machines.values() if machine.disk] or list(self.machines.values())
        return busy[fault.who % len(busy)]

    def _directories(self, fault: Fault) -> list:
        return list(self._one(fault).disk.values())

    def _leader_freezes(self, fault: Fault) -> None:
        self._leader().frozen_until = self.kernel.now + fault.seconds

    def _leader_is_cut_off(self, fault: Fault) -> None:
        self._cut(self._leader(), fault.seconds)

    def _scheduler_dies(self, fault: Fault) -> None:
        scheduler = self._leader() if fault.who else self.schedulers[-1]
        scheduler.kill()
        scheduler.note(None, "is killed")
        self.kernel.after(fault.seconds, self._start, scheduler)

    def _start(self, party: Party) -> None:
        if not party.alive:
            party.start()

    def _cut(self, party: Party, seconds: float) -> None:
        party.link.cut = True
        self.kernel.after(seconds, self._mend)

    def _mend(self) -> None:
        for party in (*self.schedulers, self.metrics, *(machine.agent for machine in self.machines.values())):
            party.link.cut = False
        self._reconnected()

    def _reconnected(self) -> None:
        for scheduler in self.schedulers:
            scheduler.resumed()
        self.metrics.resumed()
        for machine in self.machines.values():
            machine.agent.ask()

    def _agent_dies(self, fault: Fault) -> None:
        machine = self._one(fault)
        machine.agent.kill()
        machine.agent.note(None, "is killed")
        self.kernel.after(fault.seconds, self._start_agent, machine)

    def _start_agent(self, machine: Machine) -> None:
        if not machine.gone:
            self._start(machine.agent)

    def _step_ctl_dies(self, fault: Fault) -> None:
        for directory in self._directories(fault):
            if directory.step_ctl is not None and directory.step_ctl.alive:
                directory.step_ctl.note(directory.key, "is killed")
                directory.step_ctl.kill()

    def _agent_and_step_ctl_die(self, fault: Fault) -> None:
        self._agent_dies(fault)
        self._step_ctl_dies(fault)

    def _entrypoint_dies(self, fault: Fault) -> None:
        for directory in self._directories(fault):
            if directory.entrypoint is not None and directory.entrypoint.alive:
                directory.entrypoint.note(directory.key, "is killed")
                directory.entrypoint.kill()

    def _machine_reboots(self, fault: Fault) -> None:
        machine = self._one(fault)
        machine.power_off()
        self.kernel.after(fault.seconds, self._start_agent, machine)

    def _machine_is_gone(self, fault: Fault) -> None:
        machine = self._one(fault)
        others = [other for other in self.machines.values() if other is not machine and not other.gone]
        if any(other.capacity.cpu_millis >= machine.capacity.cpu_millis for other in others):
            machine.gone = True
            machine.wipe()

    def _machine_is_new(self, fault: Fault) -> None:
        machine = self._one(fault)
        machine.wipe()
        self.kernel.after(fault.seconds, self._start_agent, machine)

    def _partition(self, fault: Fault) -> None:
        self._cut(self._one(fault).agent, fault.seconds)

    def _beats_lost(self, fault: Fault) -> None:
        self._one(fault).beats_lost_until = self.kernel.now + fault.seconds

    def _bus_is_out(self, fault: Fault) -> None:
        self.net.up = False
        self.kernel.after(min(fault.seconds, 20.0), self._bus_is_back)

    def _bus_is_back(self) -> None:
        self.net.up = True
        self._reconnected()

    def _metrics_dies(self, fault: Fault) -> None:
        self.metrics.kill()
        self.kernel.after(fault.seconds, self._start, self.metrics)

    def _metrics_freezes(self, fault: Fault) -> None:
        self.metrics.frozen_until = self.kernel.now + fault.seconds

    def _clock_jumps(self, fault: Fault) -> None:
        scheduler = self.schedulers[fault.who % len(self.schedulers)]
        scheduler.skew = (self.kernel.chance() * 2 - 1) * TIMES.wall_skew

    def _drain(self, fault: Fault) -> None:
        machine = self._one(fault)
        if machine.agent.alive and not machine.agent.draining:
            machine.agent.drain(min(fault.seconds, 10.0), lambda: self.kernel.after(1.0, self._start_agent, machine))

    def _copies_come_late(self, fault: Fault) -> None:
        self._copier.frozen_until = self.kernel.now + fault.seconds

    def _calm(self) -> None:
        self.kernel.note("FAULT", None, "no more faults from here on")
        self.net.weather = FINE
        self.net.up = True
        for scheduler in self.schedulers:
            self._start(scheduler)
        for machine in self.machines.values():
            machine.beats_lost_until = 0.0
            self._start_agent(machine)
        for party in (self._copier, *self.schedulers, self.metrics):
            party.frozen_until = 0.0
        self._start(self.metrics)
        self._mend()

    # The end

    def _settled(self) -> bool:
        return (
            len(self.net.done.last) == len(self.checks.ended) == len(self.jobs)
            and not self.net.orders.last
            and not any(machine.disk for machine in self.machines.values())
            and self._copied == len(self.net.jobs.log)
        )


def run(seed: int, cores: Cores = REAL) -> "History":
    """The whole history of a seed."""
    world = World(plan(seed), cores)
    try:
        world.run()
    except Broken as broken:
        return History(seed, world.kernel, broken)
    return History(seed, world.kernel, None)


@dataclass(frozen=True, slots=True)
class History:
    seed: int
    kernel: Kernel
    broken: Broken | None
    """The first property that did not hold."""
