"""What a large cluster costs its edge, on a real etcd and API server: `python -m bench.kube_scale [--only …]`.

No node is real here, and no kubelet: nodes and pods are written into the API server. What is measured is the
controller's process and cluster-metrics', on a real bus.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measuring import CpuClock, Gate, Row, Samples, memory_bytes, ms, noted
from shared.adapters.identity import Identity
from shared.adapters.kube_api import KubeServer
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.clock import SystemClock
from shared.facts import ClusterSeen
from shared.flow import CLUSTERS, METRICS, ClusterMetrics
from shared.ids import random_id
from shared.kube import NAMESPACE, NODE, POD, SECRET, SERVICE_ACCOUNT, Change, Resource
from shared.kube_following import Listed, Selection, follow
from shared.parties import CLUSTER_METRICS
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.tenancy import ClusterPool, ClusterRecord
from shared.walls import TenantWalls
from shared.wire import decode, encode
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, HUB, ROOT, TENANT, Hub
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of

MIB = 2**20
SPEC = {"name": "b", "steps": [{"run": "make", "image": "python:3.13"}]}
OTHERS = "others"
AT_ONCE = 64
"""Creates under way, of the bare loop as of the controller."""


@dataclass
class Site:
    plane: ControlPlane
    api: KubeServer
    server: BusServer
    hub: Hub
    home: Path
    stack: AsyncExitStack

    @property
    def namespace(self) -> str:
        assert self.hub.pod is not None
        return self.hub.pod.namespace

    async def controller(self) -> ControllerProcess:
        """Once it leads."""
        lease = f"lease-{random_id()[:8]}"
        await make_namespace(self.api, lease)
        plenty = {"ORDERS_SECONDS": "10", "UNSCHEDULABLE_SECONDS": "3600", "WALLS_SECONDS": "30", "LEASE_SECONDS": "15"}
        made = ControllerProcess(self.server, self.plane.kubeconfig, lease, self.home / "controller", lease, plenty)
        made.start()
        assert made.process is not None
        self.stack.push_async_callback(end, made.process)
        await self.made([await self.hub.order(SPEC, "kube")])
        return made

    async def made(self, orders: list[Any]) -> dict[str, float]:
        """When each order's pod was first seen, by its name."""
        missing, seen = {name_of(order) for order in orders}, dict[str, float]()
        async with asyncio.timeout(900):
            async for told in follow(self.api, Selection(POD, self.namespace, keep=_named), SystemClock()):
                items = told.items if isinstance(told, Listed) else [told.resource] if told.type == "ADDED" else []
                for item in items:
                    name = item["metadata"]["name"]
                    if name in missing:
                        missing.discard(name)
                        seen[name] = time.time()
                if not missing:
                    return seen
        raise AssertionError


def _named(item: Resource) -> Resource:
    return {"metadata": {"name": item["metadata"]["name"]}}


async def end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await asyncio.to_thread(process.wait, 60)


@asynccontextmanager
async def bus_server(home: Path) -> AsyncIterator[BusServer]:
    server = BusServer(home / "nats", Identity.create(home / "identity"))
    server.identity.add_tenant(TENANT)
    server.identity.add_cluster(CLUSTER)
    server.start()
    try:
        async with server.connect(server.identity.credential(PROVISIONER)) as bus:
            await provision(bus)
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def site(home: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        plane = stack.enter_context(control_plane.running(home))
        server = await stack.enter_async_context(bus_server(home / "bus"))
        api = await stack.enter_async_context(KubeServer.connect(plane.kubeconfig))
        bus = await stack.enter_async_context(server.connect(server.identity.credential(HUB)))
        hub = await stack.enter_async_context(Hub.serving(bus, server.identity, server.url, home))
        namespace = f"overspill-{TENANT}"
        walls = TenantWalls(tenant=TENANT, namespaces=[namespace])
        hub.pod = PodGrant(pool="fixed", namespace=namespace, template=PodTemplate(), walls=walls)
        yield Site(plane, api, server, hub, home, stack)


async def make_namespace(api: KubeServer, name: str) -> None:
    await api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
    await api.create(SERVICE_ACCOUNT, account)


async def together(work: list[Any]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(each: Any) -> None:
        async with room:
            await each

    await asyncio.gather(*(one(each) for each in work))


# The picture of a large cluster


async def join(api: KubeServer, number: int) -> None:
    name = f"node-{number:05d}"
    images = [{"names": [f"docker.io/library/i{n}:1", f"i@sha256:{n:064d}"], "sizeBytes": n} for n in range(20)]
    amounts = {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi", "pods": "110"}
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    status = {"allocatable": amounts, "capacity": amounts, "conditions": conditions, "images": images}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"pool": "fixed"}}}
    await api.create(NODE, {**node, "status": status})
    await api.merge(NODE, f"{name}/status", None, {"status": status})


def other(number: int, node: int) -> Resource:
    requests = {"cpu": "250m", "memory": "256Mi"}
    containers = [{"name": f"c{n}", "image": "i", "resources": {"requests": requests}} for n in range(2)]
    spec = {"nodeName": f"node-{node:05d}", "containers": containers, "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p-{number}", "namespace": OTHERS, "labels": {"app": "web"}},
        "spec": spec,
    }


async def picture(here: Site, nodes: int, pods: int, seconds: float, events: float) -> Row:
    await make_namespace(here.api, OTHERS)
    await together([join(here.api, number) for number in range(nodes)])
    await together([here.api.create(POD, other(number, number % nodes)) for number in range(pods)])
    bus = here.hub.bus
    pools = [ClusterPool(pool="fixed", kind="fixed", pod=PodTemplate(node_selector={"pool": "fixed"}))]
    await bus.bucket(CLUSTERS).put(CLUSTER, encode(ClusterRecord(cluster=CLUSTER, bus_urls=["nats://x"], pools=pools)))
    metrics = cluster_metrics(here)
    edge = await here.controller()
    assert edge.process is not None
    await until_seen(here, nodes)
    clock = CpuClock({"edge": edge.process.pid, "hub": metrics.pid})
    began = time.monotonic()
    for number in range(round(seconds * events / 2)):  # each is an end and a begin
        await here.api.delete(POD, f"p-{number % pods}", OTHERS, grace_seconds=0)
        await here.api.create(POD, other(number % pods, number % nodes))
        await asyncio.sleep(max(0.0, began + number * 2 / events - time.monotonic()))
    spent = clock.seconds()
    rate = round(seconds * events / 2) * 2 / clock.elapsed_seconds
    share = {name: used / clock.elapsed_seconds for name, used in spent.items()}
    held = {"edge": memory_bytes(edge.process.pid)[0], "hub": memory_bytes(metrics.pid)[0]}
    whole = sum(held.values()) / MIB
    return Row(
        f"picture of {nodes} nodes and {pods} pods, {rate:.0f} pod events/s",
        f"edge **{held['edge'] / MIB:.0f} MiB**, {share['edge']:.1%} of a core; "
        f"cluster-metrics {held['hub'] / MIB:.0f} MiB, {share['hub']:.1%}",
        "—",
        f"both: {whole:.0f} MiB, {sum(share.values()):.1%} of a core",
        "python -m bench.kube_scale --only picture",
        [
            Gate(max(held.values()) / MIB, 300, "at most", "each at most 300 MiB"),
            Gate(max(share.values()), 0.2, "at most", "each at most 20 % of a core"),
        ],
    )


def cluster_metrics(here: Site) -> "subprocess.Popen[bytes]":
    creds = here.home / "metrics.creds"
    creds.write_text(here.server.identity.credential(CLUSTER_METRICS).to_file_text())
    where = {"OVERSPILL_NATS_URL": here.server.url, "OVERSPILL_NATS_CREDS_FILE": str(creds), "PYTHONPATH": str(ROOT)}
    with (here.home / "metrics.err").open("ab") as errors:
        made = subprocess.Popen(
            [sys.executable, "-m", "services.cluster_metrics"],
            env={**os.environ, **where},
            cwd=ROOT,
            stdout=errors,
            stderr=errors,
        )
    here.stack.push_async_callback(end, made)
    return made


async def until_seen(here: Site, nodes: int) -> None:
    async with asyncio.timeout(600):
        async for message in here.hub.bus.tail(METRICS, str(ClusterMetrics(CLUSTER)), from_seq=1):
            if decode(ClusterSeen, message.data).machines_ready >= nodes:
                return


# Pods that are made


async def latency(here: Site, count: int) -> Row:
    await here.controller()
    waits, bare = [], []
    sample = await objects_like(here)
    async with asyncio.timeout(600):
        watching: asyncio.Queue[str] = asyncio.Queue()

        async def watch() -> None:
            async for told in follow(here.api, Selection(POD, here.namespace, keep=_named), SystemClock()):
                if isinstance(told, Change) and told.type == "ADDED":
                    watching.put_nowait(told.resource["metadata"]["name"])
                elif isinstance(told, Listed):
                    watching.put_nowait("")

        task = asyncio.create_task(watch())
        await watching.get()
        for number in range(count):
            began = time.perf_counter()
            order = await here.hub.order(SPEC, "kube")
            while await watching.get() != name_of(order):
                pass
            waits.append(time.perf_counter() - began)
            began = time.perf_counter()
            await create_both(here.api, renamed(sample, f"bare-{number}"))
            while await watching.get() != f"bare-{number}":
                pass
            bare.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    ours, limit = Samples.of(waits), Samples.of(bare)
    return Row(
        "order published to its pod seen on a watch, idle API server",
        f"p50 **{ms(ours.p50)}** p99 **{ms(ours.p99)}**",
        f"the same secret and pod made bare: {ms(limit.p50)} / {ms(limit.p99)}",
        f"p50 {ours.p50 / limit.p50:.2f}x bare",
        "python -m bench.kube_scale --only latency",
        [Gate(ours.p50, 0.015, "at most", "p50 at most 15 ms"), Gate(ours.p99, 0.06, "at most", "p99 at most 60 ms")],
    )


async def objects_like(here: Site) -> tuple[Resource, Resource]:
    """Secret and pod as the controller made them."""
    pod = (await here.api.list(POD, here.namespace)).items[0]
    secret = await here.api.get(SECRET, pod["metadata"]["name"], here.namespace)
    return secret, pod


def renamed(both: tuple[Resource, Resource], name: str) -> tuple[Resource, Resource]:
    secret, pod = both
    kept = {key: pod["metadata"][key] for key in ("namespace", "annotations", "finalizers")}
    labels = {key: value for key, value in pod["metadata"]["labels"].items() if not key.startswith("overspill.dev")}
    about = {"namespace": secret["metadata"]["namespace"], "name": name}
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": secret["data"], "immutable": True}
    return made, {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**kept, "name": name, "labels": labels},
        "spec": pod["spec"],
    }


async def create_both(api: KubeServer, both: tuple[Resource, Resource]) -> None:
    await api.create(SECRET, both[0])
    await api.create(POD, both[1])


async def burst(here: Site, count: int) -> Row:
    edge = await here.controller()
    assert edge.process is not None
    sample = await objects_like(here)
    began = time.monotonic()
    await together([create_both(here.api, renamed(sample, f"bare-{number}")) for number in range(count)])
    bare = count / (time.monotonic() - began)
    clock = CpuClock({"controller": edge.process.pid})
    began = time.monotonic()
    orders = list(await asyncio.gather(*(here.hub.order(SPEC, "kube") for _ in range(count))))
    await here.made(orders)
    ours = count / (time.monotonic() - began)
    each = clock.seconds()["controller"] / count
    return Row(
        f"pods made, burst of {count} jobs",
        f"**{ours:.0f}/s**, {ms(each)} of the controller's CPU each",
        f"a bare loop that makes the same secret and pod, {AT_ONCE} at once: {bare:.0f}/s",
        f"{ours / bare:.2f}x the bare loop (ours claims and asks for a grant besides, beside a test's hub)",
        "python -m bench.kube_scale --only burst",
        [Gate(ours / bare, 0.5, "at least", "at least 0.5x the bare loop")],
    )


async def live(here: Site, count: int) -> Row:
    edge = await here.controller()
    assert edge.process is not None
    before = memory_bytes(edge.process.pid)[0]
    for _ in range(0, count, 500):
        await here.made(list(await asyncio.gather(*(here.hub.order(SPEC, "kube") for _ in range(500)))))
    await asyncio.sleep(15)  # two beats: what it is at rest
    after = memory_bytes(edge.process.pid)[0]
    return Row(
        f"controller, {count} live pods",
        f"**{after / MIB:.0f} MiB** resident",
        f"without any: {before / MIB:.0f} MiB",
        f"{(after - before) / count / 1024:.1f} KiB a pod",
        "python -m bench.kube_scale --only live",
        [Gate(after / MIB, 250, "at most", "at most 250 MiB")],
    )


async def measure(what: str, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as home, noted(f"kube_scale_{what}") as rows:
        async with site(Path(home)) as here:
            match what:
                case "picture":
                    row = await picture(here, options.nodes, options.pods, options.seconds, options.events)
                case "latency":
                    row = await latency(here, options.orders)
                case "burst":
                    row = await burst(here, options.burst)
                case _:
                    row = await live(here, options.live)
        rows.append(row)


FIGURES = ("latency", "burst", "live", "picture")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kube_scale", description=__doc__)
    parser.add_argument("--only", choices=FIGURES)
    for name, size in {"nodes": 5000, "pods": 20_000, "orders": 200, "burst": 1000, "live": 5000}.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--events", type=float, default=50.0)
    options = parser.parse_args()
    for what in (options.only,) if options.only else FIGURES:
        asyncio.run(measure(what, options))


if __name__ == "__main__":
    main()
