"""A machine that does what each job's name says, and tells it until it has arrived."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from shared.bus import Bus
from shared.errors import OverspillError, Rejected, Unavailable, WrongSequence
from shared.facts import AttemptAccepted, AttemptEnded, Desired, MachineBeat, Order, StepEnded
from shared.facts.attempt import Outcome
from shared.flow import Beat, DesiredAt, Edge, Evt
from shared.lifecycle import Reason
from shared.needs import GIB, Capacity
from shared.requests import OrdersAsked, OrdersTold
from shared.wire import decode, encode

CLUSTER = "c1"
RUN_SECONDS = 3.0
Key = tuple[str, str, int]


class Machine:
    """`kinds`: good, bad, slow (runs into its timeout) or endless (until it is cancelled), by job."""

    def __init__(self, bus: Bus, name: str, kinds: dict[str, str]) -> None:
        self._bus, self._name, self._kinds = bus, name, kinds
        self._running: dict[Key, asyncio.Event] = {}
        self._wanted: dict[Key, Desired] = {}
        self._settled: set[Key] = set()

    async def serve(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._hear(tasks))
            while True:
                try:
                    answer = await self._bus.request(Edge(CLUSTER, self._name, "orders"), encode(OrdersAsked()))
                except OverspillError:
                    await asyncio.sleep(1.0)
                    continue
                for order in decode(OrdersTold, answer.data).orders:
                    self._take(order, tasks)
                await asyncio.sleep(2.0)

    async def _beat(self) -> None:
        while True:
            told = MachineBeat(
                cluster=CLUSTER,
                machine=self._name,
                pool="default",
                session="s",
                version="0",
                protocol=1,
                isolation="process",
                arch="amd64",
                allocatable=Capacity(cpu_millis=4000, memory_bytes=16 * GIB, disk_bytes=200 * GIB),
                attempts=[{"tenant": t, "job": j, "epoch": e} for t, j, e in sorted(self._running)],
            )
            with contextlib.suppress(Unavailable):  # silence is what it means
                await self._bus.notify(Beat(CLUSTER, self._name), encode(told))
            await asyncio.sleep(2.0)

    async def _hear(self, tasks: asyncio.TaskGroup) -> None:
        async with self._bus.listen(DesiredAt.filter(cluster=CLUSTER, target=self._name)) as orders:
            async for message in orders:
                self._take(decode(Order, message.data), tasks)

    def _take(self, order: Order, tasks: asyncio.TaskGroup) -> None:
        key = (order.tenant, order.job, order.epoch)
        if order.desired is not Desired.RUN:
            self._wanted[key] = order.desired
            if key in self._running:
                self._running[key].set()
            elif key not in self._settled:
                self._settled.add(key)
                tasks.create_task(self._tell_end(key, *_ending(order.desired)))
        elif key not in self._settled:
            self._settled.add(key)
            tasks.create_task(self._run(key))

    async def _run(self, key: Key) -> None:
        tenant, job, epoch = key
        told = AttemptAccepted(
            tenant=tenant, job=job, epoch=epoch, at_unix_ns=0, cluster=CLUSTER, machine=self._name, claim="x"
        )
        if not await self._tell_first(told):
            return
        ended = self._running[key] = asyncio.Event()
        kind = self._kinds[job]
        seconds = RUN_SECONDS if kind in ("good", "bad") else None
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            code = 0 if kind == "good" else 3
            await self._until_told(self._tell_step(key, code))
            end = ("succeeded", Reason.ALL_STEPS_OK, 0) if code == 0 else ("failed", Reason.STEP_FAILED, code)
        else:
            end = _ending(self._wanted[key])
        del self._running[key]
        await self._tell_end(key, *end)

    async def _tell_step(self, key: Key, code: int) -> None:
        told = StepEnded(
            tenant=key[0],
            job=key[1],
            epoch=key[2],
            at_unix_ns=0,
            step=1,
            name="s",
            state="exited",
            verdict="ok" if code == 0 else "failed",
            exit_code=code,
        )
        await self._bus.publish(Evt(*key, told.token()), encode(told), message_id="-".join(map(str, key)))

    async def _tell_end(self, key: Key, outcome: Outcome, reason: Reason, code: int | None) -> None:
        told = AttemptEnded(
            tenant=key[0], job=key[1], epoch=key[2], at_unix_ns=0, outcome=outcome, reason=reason, exit_code=code
        )
        await self._tell_first(told)

    async def _tell_first(self, told: AttemptAccepted | AttemptEnded) -> bool:
        """Whether it is ours that stands, as far as we know."""
        unsure = False
        while True:
            try:
                subject = Evt(told.tenant, told.job, told.epoch, told.token())
                await self._bus.publish(subject, encode(told), expect_seq=0)
            except WrongSequence:
                return unsure
            except Unavailable:
                unsure = True
                await asyncio.sleep(0.5)
            else:
                return True

    async def _until_told(self, telling: Coroutine[Any, Any, None]) -> None:
        try:
            await telling
        except (Unavailable, Rejected):
            await asyncio.sleep(0.5)  # the end tells the same


def _ending(desired: Desired) -> tuple[Outcome, Reason, int | None]:
    if desired is Desired.TIMEOUT:
        return "timed_out", Reason.TIMEOUT, None
    return "cancelled", Reason.CANCELLED, None
