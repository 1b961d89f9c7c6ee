"""What a cluster's nodes have to give, beside what others run there. Pure.

Our own attempts are left out: the hub counts them from when it places them, and nothing is counted twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.controller.quantities import millis, whole
from shared.facts.machine import NodeSeen, Taint
from shared.images import canonical
from shared.kube import Resource, labels_of
from shared.needs import Capacity

_OWN_TAINTS = "node.kubernetes.io/"
"""Kubernetes' own, said by its conditions too: such a node takes nothing new and still belongs to its pool."""
_UNTOLD_DISK_BYTES = 2**44
"""Of a node that says nothing of its disk."""
USED_IMAGES = 256
"""Of the steps' images, so many are asked after on nodes: those used last."""
SHOWN_IMAGES = 32
"""Of one node."""
UNTOLD_SECONDS = 120.0
"""A kubelet looks at its images every half minute, and tells of fifty. One seen to be pulled counts so long."""
_VIRTUAL = "virtual-kubelet.io/provider"
NOTHING = Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=0)


@dataclass(frozen=True, slots=True)
class NodeState:
    seen: NodeSeen
    uid: str
    arch: str
    allocatable: Capacity
    takes_pods: bool
    images: frozenset[str] = frozenset()
    """By their canonical names."""


@dataclass(frozen=True, slots=True)
class NodePicture:
    """What is told of a node."""

    seen: NodeSeen
    uid: str
    arch: str
    free: Capacity
    """Allocatable less what others request."""
    takes_pods: bool


def read_node(resource: Resource) -> NodeState:
    """Raises Poison for quantities that are none."""
    about, spec, status = resource["metadata"], resource.get("spec") or {}, resource.get("status") or {}
    taints = [
        Taint(key=told["key"], value=told.get("value") or "", effect=told["effect"])
        for told in spec.get("taints") or ()
        if not told["key"].startswith(_OWN_TAINTS)
    ]
    is_ready = any(told["type"] == "Ready" and told["status"] == "True" for told in status.get("conditions") or ())
    told = status.get("allocatable") or {}
    allocatable = Capacity(
        cpu_millis=millis(told.get("cpu", "0")),
        memory_bytes=whole(told.get("memory", "0")),
        disk_bytes=whole(told.get("ephemeral-storage", str(_UNTOLD_DISK_BYTES))),
    )
    labels = dict(labels_of(resource))
    return NodeState(
        seen=NodeSeen(
            name=about["name"],
            labels=labels,
            taints=taints,
            allocatable=allocatable,
            virtual=labels.get("type") == "virtual-kubelet" or any(taint.key == _VIRTUAL for taint in taints),
        ),
        uid=about["uid"],
        arch=str((status.get("nodeInfo") or {}).get("architecture") or "amd64"),
        allocatable=allocatable,
        takes_pods=is_ready and not spec.get("unschedulable") and about.get("deletionTimestamp") is None,
        # By digest they are named too, which no step does as a rule: half the names for nothing.
        images=frozenset(
            canonical(name)
            for image in status.get("images") or ()
            for name in image.get("names") or ()
            if "@" not in name
        ),
    )


@dataclass(frozen=True, slots=True)
class Requests:
    """What one pod that isn't ours takes, and where."""

    node: str
    amount: Capacity


def read_requests(resource: Resource) -> Requests | None:
    """None for a pod that takes nothing of any node. Raises Poison."""
    spec, status = resource["spec"], resource.get("status") or {}
    node = spec.get("nodeName")
    if node is None or status.get("phase") in ("Succeeded", "Failed"):
        return None
    running = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    one_by_one = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") != "Always"]
    together = _sum(_requested(each) for each in (*spec["containers"], *running))
    for each in one_by_one:
        together = _larger(together, _requested(each))
    of_the_pod = _amount((spec.get("resources") or {}).get("requests") or {}, together)
    return Requests(node, _sum((of_the_pod, _amount(spec.get("overhead") or {}, NOTHING))))


def _requested(container: Resource) -> Capacity:
    return _amount((container.get("resources") or {}).get("requests") or {}, NOTHING)


def _amount(told: Mapping[str, Any], otherwise: Capacity) -> Capacity:
    return Capacity(
        cpu_millis=millis(told["cpu"]) if "cpu" in told else otherwise.cpu_millis,
        memory_bytes=whole(told["memory"]) if "memory" in told else otherwise.memory_bytes,
        disk_bytes=whole(told["ephemeral-storage"]) if "ephemeral-storage" in told else otherwise.disk_bytes,
    )


def _sum(amounts: Iterable[Capacity]) -> Capacity:
    cpu = memory = disk = 0
    for each in amounts:
        cpu, memory, disk = cpu + each.cpu_millis, memory + each.memory_bytes, disk + each.disk_bytes
    return Capacity(cpu_millis=cpu, memory_bytes=memory, disk_bytes=disk)


def _larger(one: Capacity, other: Capacity) -> Capacity:
    return Capacity(
        cpu_millis=max(one.cpu_millis, other.cpu_millis),
        memory_bytes=max(one.memory_bytes, other.memory_bytes),
        disk_bytes=max(one.disk_bytes, other.disk_bytes),
    )


@dataclass(slots=True)
class Taken:
    """What pods request, by node."""

    _pods: dict[str, Requests] = field(default_factory=dict)
    """By uid."""
    _sums: dict[str, Capacity] = field(default_factory=dict)

    def of(self, node: str) -> Capacity:
        return self._sums.get(node, NOTHING)

    def put(self, uid: str, requests: Requests | None) -> set[str]:
        """The nodes that it changes."""
        before = self._pods.get(uid)
        if before == requests:
            return set()
        changed = set()
        if before is not None:
            del self._pods[uid]
            left = self._sums[before.node].minus(before.amount)
            if left == NOTHING:
                del self._sums[before.node]
            else:
                self._sums[before.node] = left
            changed.add(before.node)
        if requests is not None:
            self._pods[uid] = requests
            self._sums[requests.node] = _sum((self.of(requests.node), requests.amount))
            changed.add(requests.node)
        return changed

    def keep(self, pods: Mapping[str, Requests | None]) -> set[str]:
        """These are all."""
        gone = dict.fromkeys(self._pods.keys() - pods.keys())
        return {node for uid, requests in (*gone.items(), *pods.items()) for node in self.put(uid, requests)}


@dataclass(slots=True)
class Nodes:
    """The cluster as it was told. Incremental: no change costs more than what it concerns."""

    _nodes: dict[str, NodeState] = field(default_factory=dict)
    _others: Taken = field(default_factory=Taken)
    _ours: Taken = field(default_factory=Taken)
    _used_images: dict[str, None] = field(default_factory=dict)
    """Of our steps, the last one used at the end."""
    _pulled: dict[str, dict[str, float]] = field(default_factory=dict)
    """By node: images that it does not tell of yet, and when they were pulled."""
    _told: dict[str, NodePicture] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)

    def put_node(self, node: NodeState) -> None:
        self._nodes[node.seen.name] = node
        for image in node.images & self._pulled.get(node.seen.name, {}).keys():
            del self._pulled[node.seen.name][image]
        self._dirty.add(node.seen.name)

    def drop_node(self, name: str) -> None:
        self._nodes.pop(name, None)
        self._pulled.pop(name, None)
        self._dirty.add(name)

    def keep_nodes(self, nodes: Iterable[NodeState]) -> None:
        """These are all."""
        there = {node.seen.name: node for node in nodes}
        for name in self._nodes.keys() - there.keys():
            self.drop_node(name)
        for node in there.values():
            self.put_node(node)

    def put_pod(self, uid: str, requests: Requests | None) -> None:
        """Of others."""
        self._dirty |= self._others.put(uid, requests)

    def keep_pods(self, pods: Mapping[str, Requests | None]) -> None:
        """These are all of others."""
        self._dirty |= self._others.keep(pods)

    def put_own_pod(self, uid: str, requests: Requests | None) -> None:
        self._dirty |= self._ours.put(uid, requests)

    def keep_own_pods(self, pods: Mapping[str, Requests | None]) -> None:
        self._dirty |= self._ours.keep(pods)

    def pulled(self, name: str, image: str, now: float) -> None:
        """The node has it since now, by its canonical name."""
        if name in self._nodes and image not in self._nodes[name].images:
            self._pulled.setdefault(name, {})[image] = now
            self._dirty.add(name)

    def expire(self, now: float) -> None:
        """What was pulled, and its node should have told of by now, is gone again."""
        for name, images in self._pulled.items():
            for image in [image for image, at in images.items() if now - at >= UNTOLD_SECONDS]:
                del images[image]
                self._dirty.add(name)

    def _held(self, node: NodeState) -> frozenset[str]:
        return node.images.union(self._pulled.get(node.seen.name, ()))

    def use(self, images: Iterable[str]) -> None:
        """Steps use them, by their canonical names."""
        for image in images:
            is_new = image not in self._used_images
            self._used_images.pop(image, None)
            self._used_images[image] = None
            forgotten = next(iter(self._used_images)) if len(self._used_images) > USED_IMAGES else None
            if forgotten is not None:
                del self._used_images[forgotten]
            if is_new:
                concerned = {image, forgotten}
                self._dirty |= {
                    name for name, node in self._nodes.items() if not concerned.isdisjoint(self._held(node))
                }

    def images(self, node_selector: Mapping[str, str]) -> dict[str, frozenset[str]]:
        """By name, of those that take pods and are machines."""
        return {
            name: self._held(node)
            for name, node in self._nodes.items()
            if node.takes_pods and not node.seen.virtual and node_selector.items() <= node.seen.labels.items()
        }

    def changes(self) -> list[tuple[str, NodePicture, bool]]:
        """(name, picture, gone) of what differs from what was told; counts as told now."""
        changed = []
        for name in sorted(self._dirty):
            picture, before = self._picture(name), self._told.get(name)
            if picture is None:
                if before is not None:
                    del self._told[name]
                    changed.append((name, before, True))
            elif picture != before:
                self._told[name] = picture
                changed.append((name, picture, False))
        self._dirty.clear()
        return changed

    def all(self) -> list[tuple[str, NodePicture, bool]]:
        """What was told before, to be told again."""
        return [(name, picture, False) for name, picture in sorted(self._told.items())]

    def _picture(self, name: str) -> NodePicture | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        others = self._others.of(name)
        there = self._held(node)
        held = [image for image in reversed(self._used_images) if image in there][:SHOWN_IMAGES]
        seen = node.seen.model_copy(update={"requested": _sum((others, self._ours.of(name))), "images": sorted(held)})
        return NodePicture(seen, node.uid, node.arch, node.allocatable.minus(others), node.takes_pods)
