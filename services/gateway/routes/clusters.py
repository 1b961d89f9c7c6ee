"""/v1/clusters: the machines, as their beats paint them."""

from typing import Any

import structlog
from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.desk import Caller, TheDesk
from services.gateway.presenting import time_of
from services.gateway.routes.answers import problems, show
from services.gateway.views import ClustersView, ClusterView, MachineView
from shared.clock import iso
from shared.errors import Poison
from shared.facts import ClusterSeen, MachineSeen
from shared.flow import METRICS, ClusterMetrics, MachineMetrics
from shared.placement import unserved
from shared.principal import Principal, Role
from shared.tenancy import ClusterRecord
from shared.wire import decode

log = structlog.get_logger()
router = APIRouter(prefix="/v1", tags=["clusters"])


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
    views = [
        _cluster(records.get(cluster), cluster, summaries.get(cluster), machines.get(cluster, []), caller)
        for cluster in sorted({*records, *summaries, *machines})
        if _visible(records.get(cluster), caller)
    ]
    return show(ClustersView(clusters=views))


def _visible(record: ClusterRecord | None, caller: Principal) -> bool:
    return caller.may(Role.OPERATOR) or (record is not None and record.serves(caller.tenant))


def _cluster(
    record: ClusterRecord | None,
    cluster: str,
    seen: ClusterSeen | None,
    machines: list[MachineSeen],
    caller: Principal,
) -> ClusterView:
    pools: list[dict[str, Any]] = [pool.model_dump() for pool in seen.pools] if seen else []
    if not pools and record is not None:
        pools = [{"pool": pool.pool, "kind": pool.kind, "machines": 0} for pool in record.pools]
    return ClusterView(
        cluster=cluster,
        display_name=record.display_name if record else "",
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
