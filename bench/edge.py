"""Simulated machines, in a process of their own: `python -m bench.edge`, started by `bench.jobs`.

They keep to the protocol of agents and step-ctls, with real credentials: an order wakes, the claim is published with
expected sequence 0, the grant is asked for; then a connection with the attempt's own credential tells what a runner
tells of one step that did nothing, the end with expected sequence 0. Only the step itself, its log and its files are
left out. Prints a line when all machines beat, and a line with what they did at the end (stdin closes).
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.raw_nats import BusRefused, RawNats
from shared.credential import Credential
from shared.facts import AttemptAccepted, AttemptEnded, AttemptStarted, MachineBeat, StepEnded, StepStarted
from shared.facts.core import Fact
from shared.flow import Beat, DesiredAt, Edge, Evt
from shared.ids import random_id
from shared.needs import GIB, Capacity
from shared.parties import attempt_party
from shared.wire import encode

BEAT_SECONDS = 2.0
ORDERS_EVERY_BEATS = 5
POOL = "local"
FIRST = {"Nats-Expected-Last-Subject-Sequence": "0"}


class Machine:
    def __init__(self, url: str, cluster: str, name: str, cpus: int) -> None:
        self.url, self.cluster, self.name, self.cpus = url, cluster, name, cpus
        self.session = random_id()
        self.running: dict[tuple[str, str, int], None] = {}
        self._seen: set[tuple[str, str, int]] = set()
        self.done = 0
        self.failures: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._bus: RawNats

    async def live(self, credential: Credential) -> None:
        self._bus = await RawNats.connect(self.url, credential)
        self._bus.subscribe(DesiredAt.filter(cluster=self.cluster, target=self.name), self._on_order)
        beats = 0
        while True:
            self._bus.publish(str(Beat(self.cluster, self.name)), encode(self._beat()))
            if beats % ORDERS_EVERY_BEATS == 0:
                told = orjson.loads(await self._bus.ask(str(Edge(self.cluster, self.name, "orders")), b"{}"))
                for order in told["orders"]:
                    self._take(order)
            beats += 1
            await asyncio.sleep(BEAT_SECONDS)

    def _beat(self) -> MachineBeat:
        room = Capacity(cpu_millis=self.cpus * 1000, memory_bytes=4 * self.cpus * GIB, disk_bytes=40 * self.cpus * GIB)
        return MachineBeat(
            cluster=self.cluster,
            machine=self.name,
            pool=POOL,
            session=self.session,
            version="0",
            protocol=1,
            isolation="process",
            labels=["linux"],
            arch="x86_64",
            allocatable=room,
            attempts=[{"tenant": t, "job": j, "epoch": e} for t, j, e in self.running],
            beat_seconds=BEAT_SECONDS,
        )

    def _on_order(self, _: str, data: bytes) -> None:
        self._take(orjson.loads(data))

    def _take(self, order: dict[str, Any]) -> None:
        key = (order["tenant"], order["job"], order["epoch"])
        if order["desired"] == "run" and key not in self._seen:
            self._seen.add(key)
            task = asyncio.create_task(self._attempt(order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attempt(self, order: dict[str, Any]) -> None:
        key = (order["tenant"], order["job"], order["epoch"])
        self.running[key] = None
        try:
            grant = await self._claim(order)
            await self._tell(order, grant)
            self.done += 1
        except BusRefused as refused:
            self.failures.append(f"{order['job']}: {refused}")
        finally:
            self.running.pop(key, None)

    async def _claim(self, order: dict[str, Any]) -> dict[str, Any]:
        accepted = AttemptAccepted(**_head(order), cluster=self.cluster, machine=self.name)
        source = f"/overspill/clusters/{self.cluster}/machines/{self.name}"
        asked = orjson.dumps({"tenant": order["tenant"], "job": order["job"], "epoch": order["epoch"]})
        claimed = self._bus.store(_subject(accepted), encode(accepted), _headers(accepted, source, order, FIRST))
        granted = self._bus.ask(str(Edge(self.cluster, self.name, "grant")), asked, _trace(order))
        _, answer = await asyncio.gather(claimed, granted)
        grant: dict[str, Any] = orjson.loads(answer)
        if "bus_jwt" not in grant:
            raise BusRefused(f"no grant: {grant}")
        return grant

    async def _tell(self, order: dict[str, Any], grant: dict[str, Any]) -> None:
        party = attempt_party(order["tenant"], order["job"], order["epoch"])
        credential = Credential(grant["bus_jwt"], grant["bus_seed"], party.name)
        bus = await RawNats.connect(self.url, credential)
        nonce, now = random_id(), time.time_ns()
        head, name = _head(order), "nothing"
        facts = (
            AttemptStarted(**head, machine=self.name),
            StepStarted(**head, step=1, name=name),
            StepEnded(
                **head, step=1, name=name, state="exited", verdict="ok", exit_code=0, tries=1,
                started_unix_ns=now, ended_unix_ns=now,
            ),
        )  # fmt: skip
        source = f"/overspill/jobs/{order['job']}/attempts/{order['epoch']}"
        for fact in facts:
            more = {"Nats-Msg-Id": f"{nonce}-{fact.token()}"}
            await bus.store(_subject(fact), encode(fact), _headers(fact, source, order, more))
        ended = AttemptEnded(**head, outcome="succeeded", reason="all_steps_ok", exit_code=0, step=1)
        await bus.store(_subject(ended), encode(ended), _headers(ended, source, order, FIRST))
        bus.close()


def _head(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "tenant": order["tenant"], "job": order["job"], "epoch": order["epoch"], "at_unix_ns": time.time_ns(),
    }  # fmt: skip


def _subject(fact: Any) -> str:
    return str(Evt(fact.tenant, fact.job, fact.epoch, fact.token()))


def _headers(fact: Fact, source: str, order: dict[str, Any], more: dict[str, str]) -> dict[str, str]:
    id_ = f"{order['job']}-{order['epoch']}-{fact.token()}"
    told = {"ce-specversion": "1.0", "ce-type": fact.event_type(), "ce-source": source, "ce-id": id_, **more}
    return told | _trace(order)


def _trace(order: dict[str, Any]) -> dict[str, str]:
    return {"traceparent": order["traceparent"]} if order.get("traceparent") else {}


async def main(options: argparse.Namespace) -> None:
    machines = [
        Machine(options.url, options.cluster, path.stem.removeprefix("machine-"), options.cpus)
        for path in options.credentials
    ]
    async with asyncio.TaskGroup() as tasks:
        for machine, path in zip(machines, options.credentials, strict=True):
            tasks.create_task(machine.live(Credential.from_file(path)))
        print(orjson.dumps({"machines": len(machines)}).decode(), flush=True)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(15, stop.set)
        await stop.wait()
        failures = [text for machine in machines for text in machine.failures]
        told = {"done": sum(machine.done for machine in machines), "failures": failures[:5], "failed": len(failures)}
        print(orjson.dumps(told).decode(), flush=True)
        sys.exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Simulated machines.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--cpus", type=int, default=64)
    parser.add_argument("credentials", nargs="+", type=Path)
    uvloop.run(main(parser.parse_args()))
