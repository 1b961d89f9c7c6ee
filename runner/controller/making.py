"""From an order to a pod: claim and grant at once, walls, then the secret and the pod, each by its name."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from runner.agent.model import Key
from runner.agent.telling import HubDoor
from runner.controller.grouping import containers
from runner.controller.manifest import ATTEMPT, BIN, pod, secret
from runner.controller.model import PodPlan
from runner.controller.wall_keeping import WallKeeper
from runner.protocol.attempt import Assignment
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Fence, Place, Whose, layout
from runner.protocol.plan import plans
from shared.crash_points import crash_point
from shared.errors import NotFound, OverspillError, Rejected, Unavailable
from shared.facts.order import Order
from shared.ids import random_id
from shared.kube import POD, SECRET, Busy, Kind, KubeApi, KubeConflict, KubeRefused, NamespaceGoes, Resource
from shared.kube_following import Backoff
from shared.pods import KUBE
from shared.requests import Grant, PodGrant
from shared.telemetry import continue_trace, span
from shared.wire import encode

log = structlog.get_logger()

MISSING_TRIES = 5
"""A namespace that is not there, though its walls were just built: somebody is deleting it."""
GRANT_SECONDS = 5.0
"""An end is told without a grant after so long."""
ARCHITECTURE = "kubernetes.io/arch"
"""The label that a node has of its own; a pool of another architecture selects by it."""
SHARED_WORKSPACE = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
"""The source is fetched by step-ctl's user, and git trusts no repository of another."""


class NoPodGrant(Rejected):
    """The hub's grant for job {job} says nothing of pods: update the hub."""

    code = "no_pod_grant"


class NotWanted(OverspillError):
    """Job {job} is not wanted any more."""

    code = "not_wanted"


@dataclass(frozen=True, slots=True)
class Site:
    """What all pods of this cluster have in common."""

    cluster: str
    step_ctl_image: str
    default_image: str
    architecture: str
    environment: Mapping[str, str]
    step_ctl_environment: Mapping[str, str]
    grace_seconds: float
    log_limit_bytes: int

    @property
    def claim(self) -> str:
        """The same for every controller of the cluster: whichever made the claim, the attempt is theirs. Which of them
        makes the pod, the pod's name decides.
        """
        return f"{self.cluster}/{KUBE}"


@dataclass(frozen=True, slots=True)
class Made:
    secret: Resource
    pod: Resource
    grant: PodGrant = field(repr=False)


class Maker:
    """Makes pods. Does each thing again until it is done, or not wanted."""

    def __init__(self, api: KubeApi, hub: HubDoor, walls: WallKeeper, site: Site) -> None:
        self._api, self._hub, self._walls, self._site = api, hub, walls, site

    async def make(self, order: Order, wanted: Callable[[], bool], *, inherited: bool) -> None:
        """`inherited`: the order stood before this instance led. Raises ClaimedBefore, Rejected (KubeRefused,
        Unrunnable), NotFound, NotWanted; NamespaceGoes, after which it may be made all the same.
        """
        accepted_unix_ns = time.time_ns()
        about = {"cicd.worker.id": f"{order.cluster}/{order.target}", "cicd.pipeline.run.id": order.job}
        with continue_trace(order.traceparent), span("accept attempt", attributes=about):
            async with asyncio.TaskGroup() as tasks:
                claim = self._site.claim
                tasks.create_task(self._hub.accept(order, claim, unsure=True, inherited=inherited))
                granted = tasks.create_task(self._hub.grant(order))
        crash_point("controller.after-claim-before-pod")
        made = objects(order, granted.result(), self._site, accepted_unix_ns)
        backoff, missing = Backoff(), 0
        while True:
            if not wanted():
                raise NotWanted(job=order.job)
            try:
                await self._create(made)
            except NotFound:
                missing += 1
                self._walls.doubt(order.tenant)
                if missing >= MISSING_TRIES:
                    raise
                await asyncio.sleep(backoff.next_seconds())
            except NamespaceGoes:
                self._walls.doubt(order.tenant)
                raise
            except Unavailable as error:
                log.info("pod_waits", job=order.job, why=str(error)[:300])
                await asyncio.sleep(backoff.next_seconds(error.retry_after_seconds if isinstance(error, Busy) else 0.0))
            else:
                log.info("pod_made", job=order.job, epoch=order.epoch, namespace=made.grant.namespace)
                return

    async def learn_walls(self, order: Order) -> None:
        """Of a tenant whose pods an instance before us made. Raises Rejected, Unavailable."""
        grant = await self._hub.grant(order)
        if grant.pod is not None:
            await self._walls.ensure(grant.pod.walls)

    async def left_by(self, order: Order) -> str | None:
        """The namespace in which an attempt that has no pod may have left its secret. None: it was never claimed, is
        told as over, or nobody answers.
        """
        try:
            async with asyncio.timeout(GRANT_SECONDS):
                grant = await self._hub.grant(order, self._site.claim)
        except (OverspillError, TimeoutError) as error:
            log.info("no_secret_looked_for", job=order.job, why=str(error)[:300])
            return None
        return None if grant.pod is None else grant.pod.namespace

    async def forget(self, key: Key, namespace: str) -> None:
        """Its secret goes, however long the API server is away. Raises Rejected."""
        backoff = Backoff()
        while True:
            try:
                await self._api.delete(SECRET, key.name, namespace)
            except Unavailable as error:
                await asyncio.sleep(backoff.next_seconds(error.retry_after_seconds if isinstance(error, Busy) else 0.0))
            else:
                return

    async def _create(self, made: Made) -> None:
        await self._walls.ensure(made.grant.walls)
        await self._create_one(SECRET, made.secret)
        crash_point("controller.after-secret-before-pod")
        try:
            await self._create_one(POD, made.pod)
        except KubeRefused:
            about = made.secret["metadata"]
            await self._api.delete(SECRET, about["name"], about["namespace"])
            raise

    async def _create_one(self, kind: Kind, resource: Resource) -> None:
        try:
            await self._api.create(kind, resource)
        except KubeConflict:
            # Made by us, before an answer was lost or another instance took over. The attempt is the same.
            log.info("made_before", kind=kind.kind, name=resource["metadata"]["name"])


def objects(order: Order, grant: Grant, site: Site, accepted_unix_ns: int) -> Made:
    """The attempt's secret and pod. Raises NoPodGrant, Unrunnable."""
    if grant.pod is None:
        raise NoPodGrant(job=order.job)
    plan = PodPlan(
        cluster=site.cluster,
        key=Key.of(order),
        namespace=grant.pod.namespace,
        spec=grant.spec,
        groups=tuple(containers(grant.spec, grant.pod.template, site.default_image)),
        needs=order.needs,
        template=grant.pod.template,
        step_ctl_image=site.step_ctl_image,
        default_image=site.default_image,
        pool=grant.pod.pool,
        timeout_seconds=order.timeout_seconds,
        grace_seconds=site.grace_seconds,
        node=order.node,
        traceparent=grant.traceparent or order.traceparent,
        environment=site.step_ctl_environment,
    )
    directory = AttemptDir(Path(ATTEMPT))
    place = Place(
        directory,
        {**SHARED_WORKSPACE, **site.environment},
        grace_ms=round(site.grace_seconds * 1000),
        log_limit_bytes=site.log_limit_bytes,
        # Since when, nobody knows yet: step-ctl makes the first contact.
        fence=Fence(directory.contact, None, order.fence_seconds) if order.on_lost == "rerun-fenced" else None,
        users=True,
    )
    files = layout(grant.spec, Whose(order.tenant, order.job, order.epoch, plan.traceparent), place)
    assignment = Assignment(
        grant=grant.model_copy(update={"pod": None}),
        cluster=order.cluster,
        machine=KUBE,
        nonce=random_id(),
        on_lost=order.on_lost,
        fence_seconds=order.fence_seconds,
        timeout_seconds=order.timeout_seconds,
        accepted_unix_ns=accepted_unix_ns,
        entrypoint=Path(BIN) / "entrypoint",
        helper_env=dict(site.environment),
    )
    architecture = plan.template.node_selector.get(ARCHITECTURE, site.architecture)
    return Made(secret(plan, plans(files), encode(assignment)), pod(plan, architecture), grant.pod)
