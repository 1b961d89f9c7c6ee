"""Pods on a real node: `python -m bench.kube`, as root. One node at a time on a machine."""

import argparse
import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.kube import layouts
from bench.kube.cluster import NEEDS, Cluster, Ran, opened
from bench.measuring import Gate, Row, Samples, ms, noted
from runner.controller.making import Site
from runner.controller.model import STEP_CTL
from shared.facts import Desired
from shared.ids import random_id
from shared.kube import SECRET, Resource
from shared.needs import Needs
from shared.requests import Grant
from tests.integration.runner.hub import CLUSTER
from tests.kube.edge import name_of
from tests.kube.kubelet import Kubelet
from tests.node import pods as raw_pods
from tests.node.groups import processes
from tests.node.runtime import BUSYBOX

COMMAND = "python -m bench.kube"
LENGTH_SECONDS = 1.5


def spec_of(steps: int, script: str = "echo") -> dict[str, Any]:
    return {"name": "bench", "steps": [{"run": script} for _ in range(steps)]}


@dataclass(frozen=True)
class Beside:
    """Seconds."""

    ours: list[Ran]
    raw: list[tuple[float, float]]

    @property
    def verdict(self) -> Samples:
        return Samples.of([each.verdict for each in self.ours])

    @property
    def succeeded(self) -> Samples:
        return Samples.of([over for _, over in self.raw])

    @property
    def first_step(self) -> Samples:
        return Samples.of([each.first_step for each in self.ours])

    @property
    def raw_first(self) -> Samples:
        return Samples.of([first for first, _ in self.raw])

    @property
    def ratio(self) -> float:
        return self.verdict.p50 / self.succeeded.p50


async def a_pod(cluster: Cluster, steps: int) -> Resource:
    """As the controller would make it, a container a step; its secret is there."""
    order = await cluster.hub.order(spec_of(steps), "nowhere")
    assert cluster.hub.pod is not None
    template = cluster.hub.pod.template.model_copy(update={"share_containers": "limit"})
    grant = Grant(
        tenant=order.tenant,
        job=order.job,
        epoch=1,
        spec=cluster.hub.specs[order.job],
        bus_urls=["nats://127.0.0.1:1"],
        bus_jwt="x",
        bus_seed="x",
        created_unix_ns=0,
        pod=cluster.hub.pod.model_copy(update={"template": template}),
    )
    site = Site(CLUSTER, cluster.node.image(STEP_CTL), BUSYBOX, "amd64", {}, {}, 1.0, 0)
    secret, pod = layouts.made(order, grant, site)
    await cluster.api.create(SECRET, secret)
    return pod


async def compared(cluster: Cluster, steps: int, rounds: int) -> Beside:
    """One after the other in turn, so that both see the same machine."""
    pod = await a_pod(cluster, steps)
    found = Beside([], [])
    for _ in range(rounds):
        found.ours.append(await cluster.job(spec_of(steps)))
        found.raw.append(await cluster.raw(layouts.raw(pod, f"raw-{random_id()[:8]}"), "step-1"))
    return found


async def handovers(cluster: Cluster, steps: int, share: str) -> list[float]:
    """Seconds from each step's end to the next one's beginning."""
    cluster.template(share_containers=share)
    ran = await cluster.job(spec_of(steps, f"sleep {LENGTH_SECONDS}"))
    facts = [fact for kind, fact in await cluster.hub.facts(ran.order.job) if kind == "step-ended"]
    told = sorted((fact["step"], fact["started_unix_ns"], fact["ended_unix_ns"]) for fact in facts)
    return [(after[1] - before[2]) / 1e9 for before, after in pairwise(told)]


async def waiting_memory(cluster: Cluster, steps: int) -> list[int]:
    """Private bytes of each entrypoint, once all containers are there: one runs its step, the others wait."""
    cluster.template(share_containers="limit")
    order = await cluster.hub.order(spec_of(steps, "sleep 600"), "kube", needs=NEEDS)
    name = name_of(order)
    everything_runs = lambda pod: pod["status"]["phase"] == "Running"  # noqa: E731 - a look at a pod
    await raw_pods.until(cluster.api, cluster.namespace, name, everything_runs)
    found = [private_bytes(pid) for pid in processes(b"/overspill/bin/entrypoint")]
    await cluster.hub.change(order, desired=Desired.CANCEL)
    await cluster.hub.ended(order)
    await Kubelet(cluster.api, cluster.namespace).until_gone(name)
    return found


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


async def reported(cluster: Cluster, steps: int, rounds: int) -> Samples:
    """The older layout's pods until Succeeded."""
    pod = await a_pod(cluster, steps)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return Samples.of(
            [(await cluster.raw(layouts.one_zero(pod, f"old-{random_id()[:8]}", port)))[1] for _ in range(rounds)]
        )
    finally:
        server.close()
        await server.wait_closed()


def pods_row(name: str, found: Beside, bound: float, more: list[Gate], beside: str = "") -> Row:
    return Row(
        name,
        f"first step {ms(found.first_step.p50)}, verdict **{ms(found.verdict.p50)}**",
        f"raw pod: first step {ms(found.raw_first.p50)}, Succeeded {ms(found.succeeded.p50)}{beside}",
        f"{found.ratio:.2f}x the raw pod's Succeeded",
        COMMAND,
        [Gate(found.ratio, bound, "at most", f"verdict at most {bound:g} x the raw pod's Succeeded"), *more],
        {
            "verdicts": [round(each.verdict, 3) for each in found.ours],
            "first steps": [round(each.first_step, 3) for each in found.ours],
            "raw": [(round(first, 3), round(over, 3)) for first, over in found.raw],
        },
    )


async def measure(options: argparse.Namespace, rows: list[Row]) -> None:
    async with opened() as cluster:
        await cluster.job(spec_of(1))  # the tenant's walls, the node's images
        one = await compared(cluster, 1, options.rounds)
        later = one.first_step.p50 - one.raw_first.p50
        gate = Gate(later * 1000, 50, "at most", "first step at most 50 ms after the raw pod's")
        rows.append(pods_row("one no-op step in a pod", one, 0.6, [gate]))
        small = [
            (await cluster.job(spec_of(1), Needs(cpu_millis=100, memory_bytes=2**28, disk_bytes=2**28))).verdict
            for _ in range(options.rounds)
        ]
        rows.append(
            Row(
                "one no-op step in a pod of 0.1 cores",
                f"verdict **{ms(Samples.of(small).p50)}**",
                f"of one core: {ms(one.verdict.p50)}",
                f"{Samples.of(small).p50 / one.verdict.p50:.2f}x",
                COMMAND,
            )
        )
        for share, bound in (("auto", 0.8), ("limit", 1.0)):
            if share == "limit" and not options.all:
                continue
            cluster.template(share_containers=share)
            twenty = await compared(cluster, options.steps, options.rounds)
            gates, beside = [], ""
            if share == "auto" and options.old:
                old = await reported(cluster, options.steps, options.old)
                times = old.p50 / twenty.verdict.p50
                gates = [Gate(times, 8, "at least", "at least 8 x faster than the 1.0 layout")]
                beside = f"; the 1.0 layout {ms(old.p50)}"
            name = f"{options.steps} no-op steps in a pod, `share_containers: {share}`"
            rows.append(pods_row(name, twenty, bound, gates, beside))
        private = await waiting_memory(cluster, 5)
        rows.append(
            Row(
                "memory of an entrypoint that waits in a pod",
                f"private **{max(private) / 1e6:.3f} MB** at most",
                "-",
                "-",
                COMMAND,
                [Gate(max(private) / 1e6, 0.2, "at most", "at most 0.2 MB private")],
                {"entrypoints": len(private)},
            )
        )
        for share in ("auto", "limit"):
            taken = Samples.of(await handovers(cluster, options.handovers, share))
            rows.append(
                Row(
                    f"hand-over between steps of {LENGTH_SECONDS:g} s in a pod, `share_containers: {share}`",
                    f"p50 **{ms(taken.p50)}** worst {ms(taken.values[-1])}",
                    "a 1 s poll: 500 ms on average",
                    f"1/{0.5 / taken.p50:.0f} of the poll's",
                    COMMAND,
                    [Gate(taken.p50 * 1000, 2, "at most", "p50 at most 2 ms")],
                )
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Pods on a real node.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--old", type=int, default=1, help="pods of the 1.0 layout")
    parser.add_argument("--handovers", type=int, default=9, help="steps of a job whose hand-overs are measured")
    parser.add_argument("--all", action="store_true", help="a container a step, too")
    options = parser.parse_args()
    with noted("kube") as rows:
        asyncio.run(measure(options, rows))


if __name__ == "__main__":
    main()
