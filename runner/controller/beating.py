"""Shows the hub the cluster: a beat of the controller itself, and one of each node, on change and again after a while.

A beat of a controller or a node says that it is judged by a longer silence than an agent's: pods go on without their
controller, and so do the attempts in them. New ones have to wait for it much sooner: after two beats that did not come.
"""

import asyncio
import contextlib

import structlog

from runner.controller.model import CLUSTER
from runner.controller.nodes import NOTHING, NodePicture, Nodes, NodeState, Requests, read_node, read_requests
from runner.controller.pod_figures import POOL, OwnPods, step_images
from runner.controller.pods import read
from runner.controller.prepulling import Usage
from runner.protocol.directory import PROTOCOL
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import Poison, Unavailable
from shared.facts.machine import MachineBeat, PodFigures
from shared.flow import Beat
from shared.ids import random_id, token_from
from shared.kube import EVENT, NODE, POD, Change, KubeApi, Resource
from shared.kube_following import Listed, Selection, Told, follow
from shared.pods import KUBE
from shared.version import VERSION
from shared.wire import encode

log = structlog.get_logger()

COALESCE_SECONDS = 0.5
BEATS_UNTIL_LOST = 5.0
"""As cluster-metrics counts them."""
BEATS_UNTIL_SUSPECT = 2.5
"""Two that did not come, and half of one for those on their way."""


class Beats:
    """`silence_seconds`: unheard so long, the cluster is lost."""

    def __init__(
        self, bus: Bus, api: KubeApi, clock: Clock, cluster: str, beat_seconds: float, silence_seconds: float
    ) -> None:
        self._bus, self._api, self._clock = bus, api, clock
        self._cluster, self._beat_seconds, self._silence_seconds = cluster, beat_seconds, silence_seconds
        self.nodes = Nodes()
        self._session = random_id()
        self._changed = asyncio.Event()
        self._listed: set[str] = set()
        self._own = OwnPods()
        self.usage = Usage()
        """What steps use, and what pulling it takes."""

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_nodes())
            tasks.create_task(self._follow_pods())
            tasks.create_task(self._follow_pulls())
            tasks.create_task(self._tell())

    async def _follow_nodes(self) -> None:
        async for told in follow(self._api, Selection(NODE, keep=_slim_node), self._clock):
            match told:
                case Listed(items):
                    self.nodes.keep_nodes(item["node"] for item in items if item["node"] is not None)
                    self._listed.add(NODE.plural)
                case Change("DELETED", resource):
                    self.nodes.drop_node(resource["metadata"]["name"])
                case Change(_, resource):
                    if (node := _readable(resource)) is not None:
                        self.nodes.put_node(node)
            self._changed.set()

    async def _follow_pods(self) -> None:
        """Others': what of the nodes is not ours to give."""
        selection = Selection(POD, labels=f"{CLUSTER}!={self._cluster}", keep=_slim_pod)
        async for told in follow(self._api, selection, self._clock):
            match told:
                case Listed(items):
                    self.nodes.keep_pods({item["uid"]: item["requests"] for item in items})
                    self._listed.add(POD.plural)
                case Change("DELETED", resource):
                    self.nodes.put_pod(resource["metadata"]["uid"], None)
                case Change(_, resource):
                    self.nodes.put_pod(resource["metadata"]["uid"], _requests(resource))
            self._changed.set()

    def told_of_own_pods(self, told: Told) -> None:
        """As the controller follows them anyhow."""
        match told:
            case Listed(items):
                self._own.keep(item["metadata"]["uid"] for item in items)
                self.nodes.keep_own_pods({item["metadata"]["uid"]: _requests(item) for item in items})
                for item in items:
                    self._look_at_own(item, is_new=False)
            case Change("DELETED", resource):
                self._own.drop(resource["metadata"]["uid"])
                self.nodes.put_own_pod(resource["metadata"]["uid"], None)
            case Change(kind, resource):
                self.nodes.put_own_pod(resource["metadata"]["uid"], _requests(resource))
                self._look_at_own(resource, is_new=kind == "ADDED")
        self._changed.set()

    def _look_at_own(self, resource: Resource, *, is_new: bool) -> None:
        try:
            pod = read(resource)
        except Poison:
            return  # the controller complains of it
        pool = (resource["metadata"].get("annotations") or {}).get(POOL, KUBE)
        self._own.put(pod, pool, self._clock.monotonic(), is_new=is_new)
        images = list(step_images(resource))
        self.nodes.use(images)
        # What a pull secret opened is its tenant's alone: it is never pulled for others.
        if is_new and not resource["spec"].get("imagePullSecrets"):
            for image in images:
                self.usage.used(image, self._clock.monotonic())

    async def _follow_pulls(self) -> None:
        """What the kubelets say of images; what they said before we listened is left."""
        selection = Selection(EVENT, fields="reason=Pulled,involvedObject.kind=Pod", keep=lambda _: {})
        async for told in follow(self._api, selection, self._clock):
            match told:
                case Change("ADDED", event):
                    about, message = event["involvedObject"], event.get("message") or ""
                    now = self._clock.monotonic()
                    pull = self._own.pulled(about.get("uid", ""), message, now)
                    if pull is not None:
                        self.usage.pulled(pull.image, pull.seconds, pull.size_bytes)
                        # The node itself says so half a minute later.
                        self.nodes.pulled((event.get("source") or {}).get("host") or "", pull.image, now)
                        self._changed.set()
                case _:
                    pass

    async def _tell(self) -> None:
        while self._listed != {NODE.plural, POD.plural}:
            self._changed.clear()
            await self._changed.wait()
        all_told_at = self._clock.monotonic() - self._beat_seconds
        pods_told: list[PodFigures] = []
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            is_time = now - all_told_at >= self._beat_seconds
            self.nodes.expire(now)
            changes = self.nodes.changes()
            gone = [change for change in changes if change[2]]
            for name, picture, is_gone in [*self.nodes.all(), *gone] if is_time else changes:
                await self._send(token_from(name), self._beat_of(name, picture, leaving=is_gone))
            pods = self._own.told(now)
            if is_time or pods != pods_told:
                pods_told = pods
                # Last: with it come the serverless pools, which are for what fits no node.
                await self._send(KUBE, self._beat_of_controller(pods))
            if is_time:
                all_told_at = now
            await asyncio.sleep(COALESCE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, all_told_at + self._beat_seconds - self._clock.monotonic())):
                    await self._changed.wait()

    async def _send(self, machine: str, beat: MachineBeat) -> None:
        try:
            await self._bus.notify(Beat(self._cluster, machine), encode(beat))
        except Unavailable as error:
            log.info("beat_not_sent", why=str(error))

    def _beat_of_controller(self, pods: list[PodFigures]) -> MachineBeat:
        return MachineBeat(
            cluster=self._cluster,
            machine=KUBE,
            pool=KUBE,
            session=self._session,
            version=VERSION,
            protocol=PROTOCOL,
            isolation="pod",
            pods=pods,
            arch="any",
            allocatable=NOTHING,
            beat_seconds=self._silence_seconds / BEATS_UNTIL_LOST,
            suspect_seconds=self._beat_seconds * BEATS_UNTIL_SUSPECT,
        )

    def _beat_of(self, name: str, picture: NodePicture, *, leaving: bool) -> MachineBeat:
        return MachineBeat(
            cluster=self._cluster,
            machine=token_from(name),
            pool=KUBE,
            session=picture.uid,
            version=VERSION,
            protocol=PROTOCOL,
            isolation="pod",
            arch=picture.arch,
            allocatable=picture.free,
            draining=not picture.takes_pods,
            leaving=leaving,
            beat_seconds=self._silence_seconds / BEATS_UNTIL_LOST,
            suspect_seconds=self._beat_seconds * BEATS_UNTIL_SUSPECT,
            node=picture.seen,
        )


def _readable(item: Resource) -> NodeState | None:
    try:
        return read_node(item)
    except Poison as poison:
        log.warning("node_ignored", name=item["metadata"]["name"], why=str(poison))
        return None


def _slim_node(item: Resource) -> Resource:
    return {"node": _readable(item)}


def _slim_pod(item: Resource) -> Resource:
    return {"uid": item["metadata"]["uid"], "requests": _requests(item)}


def _requests(item: Resource) -> Requests | None:
    try:
        return read_requests(item)
    except Poison as poison:
        log.warning("pod_ignored", name=item["metadata"]["name"], why=str(poison))
        return None
