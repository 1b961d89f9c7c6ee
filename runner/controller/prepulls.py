"""Keeps images warm: a short-lived pod for each node and image, which does nothing once the image is there.

No DaemonSet: its pods would stay, and each image would be pulled everywhere at once. A pod here has no secret and no
account, requests nothing, and runs the entrypoint's `version`; it is deleted when it is over, or does not get on.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from runner.controller.manifest import BIN, ENTRYPOINTS
from runner.controller.model import CLUSTER, LABEL
from runner.controller.nodes import Nodes
from runner.controller.prepulling import Keeping, Usage, keep_warm, next_pulls
from shared.clock import Clock
from shared.errors import OverspillError
from shared.kube import CONFIG_MAP, POD, Change, KubeApi, KubeConflict, Resource
from shared.kube_following import Listed, Selection, follow

log = structlog.get_logger()

APP = "overspill-prepull"
NODE, IMAGE = f"{LABEL}/node", f"{LABEL}/image"
LOOK_SECONDS = 15.0
GIVE_UP_SECONDS = 900.0
AGAIN_SECONDS = 3600.0
"""An image that was pulled and isn't told of by its node, or could not be: kubelets tell of fifty."""


@dataclass(frozen=True, slots=True)
class Yard:
    """Where images are kept, and how the pods that pull them look."""

    cluster: str
    namespace: str
    architecture: str
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Resource, ...] = ()
    priority_class: str = ""


def puller(yard: Yard, node: str, image: str) -> Resource:
    """The pod. Pure."""
    name = hashlib.sha256(f"{node} {image}".encode()).hexdigest()[:16]
    match = {"key": "metadata.name", "operator": "In", "values": [node]}
    nothing = {"cpu": "0", "memory": "0"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"prepull-{name}",
            "namespace": yard.namespace,
            "labels": {"app": APP, CLUSTER: yard.cluster},
            "annotations": {NODE: node, IMAGE: image},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": round(GIVE_UP_SECONDS),
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": dict(yard.node_selector),
            "tolerations": list(yard.tolerations),
            **({"priorityClassName": yard.priority_class} if yard.priority_class else {}),
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [match]}]}
                }
            },
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "pull",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": [f"{BIN}/entrypoint", "version"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"requests": nothing, "limits": {"cpu": "100m", "memory": "32Mi"}},
                    "volumeMounts": [{"name": "bin", "mountPath": BIN, "readOnly": True}],
                }
            ],
            "volumes": [
                {
                    "name": "bin",
                    "configMap": {
                        "name": ENTRYPOINTS,
                        "items": [{"key": yard.architecture, "path": "entrypoint"}],
                        "defaultMode": 0o555,
                    },
                }
            ],
        },
    }


class Prepuller:
    """`binary`: the entrypoint's ConfigMap, of our own namespace."""

    def __init__(
        self, api: KubeApi, clock: Clock, yard: Yard, rules: Keeping, usage: Usage, nodes: Nodes, binary: Resource
    ) -> None:
        self._api, self._clock, self._yard, self._rules = api, clock, yard, rules
        self._usage, self._nodes, self._binary = usage, nodes, binary
        self._pods: dict[str, Resource] = {}
        self._tried: dict[tuple[str, str], float] = {}
        self._since: dict[str, float] = {}
        self._warm: tuple[str, ...] = ()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Never returns; does nothing where nothing is to be kept."""
        if self._rules.images == 0:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._look())

    async def _follow(self) -> None:
        labels = f"app={APP},{CLUSTER}={self._yard.cluster}"
        async for told in follow(self._api, Selection(POD, self._yard.namespace, labels=labels), self._clock):
            match told:
                case Listed(items):
                    self._pods = {item["metadata"]["name"]: item for item in items}
                case Change("DELETED", pod):
                    self._pods.pop(pod["metadata"]["name"], None)
                case Change(_, pod):
                    self._pods[pod["metadata"]["name"]] = pod
            self._changed.set()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._changed.clear()
            try:
                await self._once()
            except OverspillError as error:
                log.info("prepull_waits", why=str(error)[:300])
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _once(self) -> None:
        now = self._clock.monotonic()
        self._since = {name: self._since.get(name, now) for name in self._pods}
        for name, pod in list(self._pods.items()):
            phase = (pod.get("status") or {}).get("phase")
            if phase == "Succeeded":
                self._nodes.pulled(*_pull_of(pod), now)
            # Of one that no node takes no kubelet counts the deadline.
            if phase in ("Succeeded", "Failed") or now - self._since[name] >= GIVE_UP_SECONDS:
                await self._api.delete(POD, name, self._yard.namespace, grace_seconds=0)
        self._tried = {pull: at for pull, at in self._tried.items() if now - at < AGAIN_SECONDS}
        self._warm = keep_warm(self._usage.worth(now, self._rules.window_seconds), self._warm, self._rules)
        going = [_pull_of(pod) for pod in self._pods.values()]
        there = {
            node: [*images, *(image for at, image in self._tried if at == node)]
            for node, images in self._nodes.images(self._yard.node_selector).items()
        }
        pulls = next_pulls(self._warm, there, going, self._rules)
        if pulls and not self._pods:
            await self._api.apply(CONFIG_MAP, self._binary)
        for node, image in pulls:
            self._tried[node, image] = now
            log.info("image_prepulled", node=node, image=image)
            try:
                await self._api.create(POD, puller(self._yard, node, image))
            except KubeConflict:
                log.info("prepulled_by_another", node=node, image=image)


def _pull_of(pod: Resource) -> tuple[str, str]:
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get(NODE, ""), annotations.get(IMAGE, "")
