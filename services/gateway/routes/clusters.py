"""/v1/clusters: the machines, as their beats paint them; and how operators let clusters join and leave."""

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from services.gateway.desk import Caller, Operator, TheDesk
from services.gateway.presenting import time_of
from services.gateway.routes.answers import problems, show
from services.gateway.routes.reading_input import body_of, taking
from services.gateway.views import (
    ClustersView,
    ClusterView,
    CredentialView,
    EnrolledClusterView,
    MachineView,
    View,
)
from shared.clock import iso
from shared.errors import NotFound, Poison
from shared.facts import ClusterSeen, MachineSeen
from shared.flow import METRICS, ClusterMetrics, MachineMetrics
from shared.ids import TenantId
from shared.lifecycle import JobState
from shared.needs import Capacity
from shared.parties import controller_party
from shared.placement import unserved
from shared.principal import Principal, Role
from shared.tenancy import ClusterPool, ClusterRecord
from shared.wire import decode

log = structlog.get_logger()
router = APIRouter(prefix="/v1", tags=["clusters"])
Name = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")]


class ClusterAsked(View):
    """What is left out stays as it was, or gets its default; a new cluster needs `bus_urls`."""

    model_config = ConfigDict(extra="forbid")

    display_name: str = Field(default="", max_length=200)
    bus_urls: list[Annotated[str, Field(pattern=r"^(nats|tls|ws|wss)://[^\s/,]+$", max_length=500)]] = Field(
        default_factory=list, min_length=1, max_length=16, description="the bus as the cluster's pods reach it"
    )
    object_url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=500)] | None = Field(
        default=None, description="the object store as the cluster's pods reach it"
    )
    pools: list[ClusterPool] = Field(default_factory=list, max_length=64)
    tenants: list[TenantId] | None = Field(default=None, description="only these may run there; null: all")
    cordoned: bool = Field(default=False, description="nothing more is placed there; what runs goes on")


@router.put(
    "/clusters/{cluster}",
    response_model=EnrolledClusterView,
    openapi_extra=taking("ClusterAsked"),
    responses={201: {"model": EnrolledClusterView, "description": "Made"}, **problems(409, 413, 415)},
)
async def put_cluster(request: Request, cluster: Name, caller: Operator, desk: TheDesk) -> Response:
    """Let a cluster join, or change what is known of it. Its account on the bus follows."""
    del caller
    record, is_new = await desk.enrolling.cluster(cluster, await body_of(request, ClusterAsked))
    view = EnrolledClusterView(**record.model_dump(mode="json", include=set(EnrolledClusterView.model_fields)))
    return show(view, 201 if is_new else 200)


@router.post("/clusters/{cluster}/credential", response_model=CredentialView, responses=problems(404))
async def cut_credential(
    cluster: Name,
    caller: Operator,
    desk: TheDesk,
    expires_seconds: Annotated[float | None, Query(gt=0, le=10**9, description="absent: never")] = None,
) -> Response:
    """A credential for the cluster's controller. 404 until its account has been made, moments after it joined."""
    if desk.directory.clusters.get(cluster) is None:
        raise NotFound(what="cluster", name=cluster)
    cut = desk.issuer.credential(controller_party(cluster), cluster=cluster, expires_seconds=expires_seconds)
    log.info("credential_cut", cluster=cluster, by=caller.subject)
    view = CredentialView(credential=cut.to_file_text(), expires_seconds=expires_seconds)
    return show(view)


@router.delete(
    "/clusters/{cluster}",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "Its record is gone; its account goes"}, **problems(404, 409)},
)
async def remove_cluster(
    cluster: Name,
    caller: Operator,
    desk: TheDesk,
    force: Annotated[bool, Query(description="also while jobs run there: they are lost")] = False,  # noqa: FBT002 - a query parameter
) -> Response:
    """Take a cluster out: its record goes, and with it its account on the bus."""
    await desk.enrolling.remove_cluster(cluster, force=force)
    log.info("cluster_removed_by", cluster=cluster, by=caller.subject)
    return Response(status_code=204)


@router.get("/clusters", response_model=ClustersView, responses=problems())
async def list_clusters(caller: Caller, desk: TheDesk) -> Response:
    """The clusters that serve this tenant, with their machines. Other tenants' attempts are only counted."""
    summaries: dict[str, ClusterSeen] = {}
    machines: dict[str, list[MachineSeen]] = {}
    for message in await desk.bus.last_each(METRICS, ClusterMetrics.filter(), MachineMetrics.filter()):
        try:
            if message.subject.endswith(".summary"):
                seen = decode(ClusterSeen, message.data)
                summaries[seen.cluster] = seen
            else:
                machine = decode(MachineSeen, message.data)
                machines.setdefault(machine.cluster, []).append(machine)
        except Poison as poison:
            # One unreadable picture does not hide the others.
            log.warning("picture_ignored", subject=message.subject, why=str(poison))
    records = {record.cluster: record for record in desk.directory.clusters.values()}
    taken = await _taken(desk)
    now = desk.clock.now()
    views = [
        _cluster(records.get(cluster), cluster, summaries.get(cluster), machines.get(cluster, []), caller, taken, now)
        for cluster in sorted({*records, *summaries, *machines} - desk.directory.clusters.removed)
        if _visible(records.get(cluster), caller)
    ]
    return show(ClustersView(clusters=views))


NOTHING = Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=0)
Taken = dict[tuple[str, str], tuple[int, Capacity]]


async def _taken(desk: TheDesk) -> Taken:
    """By (cluster, pool): how many jobs are placed, and what they need."""
    taken: Taken = {}
    for record in await desk.reading.placed([tenant.tenant for tenant in desk.directory.tenants.values()]):
        if record.state is JobState.PLACED and record.placement is not None:
            where, needs = (record.placement.cluster, record.placement.pool), record.needs
            count, before = taken.get(where, (0, NOTHING))
            taken[where] = (
                count + 1,
                Capacity(
                    cpu_millis=before.cpu_millis + needs.cpu_millis,
                    memory_bytes=before.memory_bytes + needs.memory_bytes,
                    disk_bytes=before.disk_bytes + needs.disk_bytes,
                ),
            )
    return taken


def state_of(record: ClusterRecord | None, machines: list[MachineSeen]) -> str:
    """The best that any of its machines is. Pure."""
    states = {machine.state for machine in machines}
    if record is not None and record.cordoned:
        return "draining"
    return next((state for state in ("ready", "draining", "suspect", "lost", "gone") if state in states), "unseen")


def _visible(record: ClusterRecord | None, caller: Principal) -> bool:
    return caller.may(Role.OPERATOR) or (record is not None and record.serves(caller.tenant))


def _cluster(
    record: ClusterRecord | None,
    cluster: str,
    seen: ClusterSeen | None,
    machines: list[MachineSeen],
    caller: Principal,
    taken: Taken,
    now: float,
) -> ClusterView:
    pools: list[dict[str, Any]] = [
        pool.model_dump()
        | {"free": pool.allocatable.minus(taken.get((cluster, pool.pool), (0, NOTHING))[1]).model_dump()}
        for pool in (seen.pools if seen else [])
    ]
    heard = max((machine.seen_unix_ns for machine in machines), default=None)
    if not pools and record is not None:
        pools = [{"pool": pool.pool, "kind": pool.kind, "machines": 0} for pool in record.pools]
    return ClusterView(
        cluster=cluster,
        display_name=record.display_name if record else "",
        state=state_of(record, machines),
        jobs=sum(count for (where, _), (count, _) in taken.items() if where == cluster),
        age_seconds=None if heard is None else max(0.0, now - heard / 1e9),
        pools=pools,
        machines_ready=seen.machines_ready if seen else 0,
        machines_lost=seen.machines_lost if seen else 0,
        seen=time_of(seen.seen_unix_ns) if seen else None,
        machines=[_machine(machine, caller) for machine in sorted(machines, key=lambda each: each.machine)],
    )


def _machine(machine: MachineSeen, caller: Principal) -> MachineView:
    own = [attempt for attempt in machine.attempts if attempt.tenant == caller.tenant or caller.may(Role.OPERATOR)]
    return MachineView(
        machine=machine.machine,
        pool=machine.pool,
        state=machine.state,
        isolation=machine.isolation,
        labels=machine.labels,
        arch=machine.arch,
        allocatable=machine.allocatable.model_dump(include={"cpu_millis", "memory_bytes", "disk_bytes"}),
        attempts=[attempt.model_dump(include={"tenant", "job", "epoch"}) for attempt in own],
        others=len(machine.attempts) - len(own),
        seen=time_of(machine.seen_unix_ns) or iso(0),
        note=unserved(machine.protocol),
    )
