"""A cluster's pools, from its machines. Pure; `now` is monotonic seconds."""

from collections.abc import Iterable, Iterator
from operator import attrgetter

from services.cluster_metrics.model import Cluster, Load, Machine
from shared.facts.machine import NodeSeen, NodeShape, PoolSeen
from shared.needs import Capacity
from shared.tenancy import PoolKind

SHAPES_SHOWN = 16


def pools_seen(cluster: Cluster, machines: Iterable[Machine], now: float) -> Iterator[PoolSeen]:
    """Of machines that are ready."""
    configured = cluster.record.pools if cluster.record is not None else []
    kinds: dict[str, PoolKind] = {pool.pool: pool.kind for pool in configured}
    ready: dict[str, list[Machine]] = {pool: [] for pool in kinds}
    for machine in machines:
        members = ready.setdefault(machine.picture.pool, [])
        if machine.picture.state == "ready":
            members.append(machine)
    virtual = [pool for pool, until in cluster.virtual.values() if now < until]
    for pool in sorted(ready):
        nodes = [machine.load for machine in ready[pool] if machine.load is not None]
        yield PoolSeen(
            pool=pool,
            kind=kinds.get(pool, "agents"),
            machines=len(ready[pool]),
            allocatable=_sum(machine.picture.allocatable for machine in ready[pool]),
            virtual_nodes=virtual.count(pool),
            requested=_sum(load.requested for load in nodes) if nodes else None,
            shapes=shapes(nodes),
            pods=cluster.pods.get(pool),
        )


def shapes(nodes: Iterable[Load]) -> list[NodeShape]:
    by_size: dict[tuple[int, int], list[Capacity]] = {}
    for load in nodes:
        by_size.setdefault((load.whole.cpu_millis, load.whole.memory_bytes), []).append(load.free)
    found = [
        NodeShape(
            cpu_millis=cpu,
            memory_bytes=memory,
            nodes=len(free),
            free=_sum(free),
            roomiest=max(free, key=attrgetter("cpu_millis", "memory_bytes", "disk_bytes")),
        )
        for (cpu, memory), free in by_size.items()
    ]
    return sorted(found, key=lambda shape: (-shape.nodes, shape.cpu_millis, shape.memory_bytes))[:SHAPES_SHOWN]


def load_of(node: NodeSeen, usable: Capacity) -> Load:
    """An older controller tells neither what is requested nor the whole: then it is what may be used."""
    if node.requested is None or node.allocatable is None:
        return Load(Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=0), usable, usable)
    return Load(node.requested, node.allocatable, node.allocatable.minus(node.requested))


def _sum(amounts: Iterable[Capacity]) -> Capacity:
    cpu = memory = disk = 0
    for each in amounts:
        cpu, memory, disk = cpu + each.cpu_millis, memory + each.memory_bytes, disk + each.disk_bytes
    return Capacity(cpu_millis=cpu, memory_bytes=memory, disk_bytes=disk)
