"""From beats and the passing of time to pictures. Pure.

`now` is monotonic seconds, so no jump of a clock loses a machine.
"""

from collections.abc import Iterator
from dataclasses import replace

from services.cluster_metrics.model import (
    Cluster,
    Effect,
    Forget,
    Machine,
    MachineState,
    Picture,
    State,
    TellCluster,
    TellMachine,
)
from services.cluster_metrics.pools import pool_of, virtual_pool_of
from services.cluster_metrics.settings import Settings
from services.cluster_metrics.summary import load_of, pools_seen
from shared.errors import Poison
from shared.facts import ClusterSeen, MachineBeat, MachineSeen
from shared.ids import token_from
from shared.pods import KUBE
from shared.tenancy import ClusterRecord

SILENT = ("lost", "gone")


def beat(state: State, told: MachineBeat, now: float, unix_ns: int, settings: Settings) -> bool:
    """Take in one beat; whether it says something that should be told at once. Raises Poison past `max_machines`."""
    _note_pods(state, told, now, settings)
    changed = [_take(state, told, *each, now, unix_ns, settings) for each in _rooms(state, told)]
    return any(changed)


def _note_pods(state: State, told: MachineBeat, now: float, settings: Settings) -> None:
    """What is of the cluster and of no room: the pods of its pools, its virtual nodes."""
    if told.isolation != "pod":
        return
    cluster = state.clusters.setdefault(told.cluster, Cluster())
    if told.pods is not None:
        pods = {figures.pool: figures for figures in told.pods}
        cluster.changed |= pods != cluster.pods
        cluster.pods = pods
    if told.node is not None and cluster.record is not None:
        pool = virtual_pool_of(told.node, cluster.record.pools)
        if pool is None or told.leaving:
            cluster.changed |= cluster.virtual.pop(told.machine, None) is not None
        else:
            cluster.changed |= told.machine not in cluster.virtual
            cluster.virtual[told.machine] = pool, now + settings.silent_beats * told.beat_seconds


def _rooms(state: State, told: MachineBeat) -> Iterator[tuple[str, Picture]]:
    """What a beat tells of, by name: of a machine; of a node; of a controller, which takes orders, and with it of the
    cluster's serverless pools.
    """
    picture = _picture(told)
    cluster = state.clusters.get(told.cluster)
    pools = cluster.record.pools if cluster is not None and cluster.record is not None else []
    if told.node is not None:
        pool = pool_of(told.node, pools)
        if pool is not None:
            yield told.machine, replace(picture, pool=pool, node=told.node.name, images=tuple(told.node.images))
        return
    yield told.machine, picture
    if told.isolation == "pod":
        for serverless in pools:
            if serverless.kind == "serverless":
                name = token_from(f"serverless-{serverless.pool}")
                yield name, replace(picture, pool=serverless.pool, allocatable=serverless.limit)


def _take(
    state: State, told: MachineBeat, machine: str, picture: Picture, now: float, unix_ns: int, settings: Settings
) -> bool:
    name = (told.cluster, machine)
    known = state.machines.get(name)
    if known is None:
        if len(state.machines) >= settings.max_machines:
            raise Poison(why=f"there are {len(state.machines)} machines already; raise max_machines")
        known = Machine(told.cluster, machine, picture, (), now, unix_ns, told.beat_seconds, since=now)
        state.machines[name] = known
    if known.picture.state != picture.state:
        known.since = now
    is_new = picture != known.picture or told.node != known.node
    if is_new or known.told_picture is None:
        state.clusters.setdefault(told.cluster, Cluster()).changed = True
    if is_new or (known.load is None and told.node is not None):
        known.picture, known.node = picture, told.node
        known.load = None if told.node is None else load_of(told.node, picture.allocatable)
    known.attempts = tuple(told.attempts)
    known.heard_at, known.seen_unix_ns = now, unix_ns
    known.beat_seconds, known.suspect_seconds = told.beat_seconds, told.suspect_seconds
    is_untold = _is_untold(known)
    if is_untold:
        state.stirred.add(name)
    return is_untold


def _picture(told: MachineBeat) -> Picture:
    state: MachineState = "gone" if told.leaving else "draining" if told.draining else "ready"
    return Picture(
        told.pool,
        state,
        told.isolation,
        tuple(sorted(told.labels)),
        told.arch,
        told.allocatable,
        told.session,
        told.protocol,
    )


def restore(state: State, seen: MachineSeen, seq: int, now: float) -> None:
    """What was told before our start; the machine gets its whole grace again."""
    picture = Picture(
        seen.pool,
        seen.state,
        seen.isolation,
        tuple(seen.labels),
        seen.arch,
        seen.allocatable,
        seen.session,
        seen.protocol,
        seen.node,
        tuple(seen.images),
    )
    state.machines[seen.cluster, seen.machine] = Machine(
        seen.cluster,
        seen.machine,
        picture,
        tuple(seen.attempts),
        now,
        seen.seen_unix_ns,
        beat_seconds=seen.beat_seconds,
        suspect_seconds=seen.suspect_seconds,
        version=seen.version,
        seq=seq,
        told_at=now,
        told_picture=picture,
        told_attempts=tuple(seen.attempts),
        since=now,
    )


def restore_cluster(state: State, seen: ClusterSeen, seq: int) -> None:
    cluster = state.clusters.setdefault(seen.cluster, Cluster())
    cluster.version, cluster.seq = seen.version, seq


def describe(state: State, record: ClusterRecord) -> None:
    """What the platform knows of a cluster: the kinds of its pools."""
    cluster = state.clusters.setdefault(record.cluster, Cluster())
    cluster.record, cluster.changed = record, True


def resume(state: State, now: float) -> None:
    """We may have been deaf until now: nobody's silence before it counts."""
    state.resumed_at = now


def tick(state: State, now: float, unix_ns: int, settings: Settings) -> Iterator[Effect]:
    """What is to be told now. Marks as suspect who is silent, as lost who has been silent too long.

    Beats may ask for many ticks a second: all machines are gone through once in `tick_seconds`, between only those that
    said something new.
    """
    is_whole = now - state.looked_at >= settings.tick_seconds
    names, state.stirred = list(state.machines) if is_whole else sorted(state.stirred), set()
    if is_whole:
        state.looked_at = now
    for name in names:
        machine = state.machines.get(name)
        if machine is None:
            continue
        _judge_silence(state, machine, now, settings)
        if machine.picture.state in SILENT and now - machine.since >= settings.forget_seconds:
            del state.machines[name]
            state.clusters.setdefault(machine.cluster, Cluster()).changed = True
            yield Forget(*name)
        elif _due(machine, now, settings):
            yield _tell(machine, now)
    for cluster_id in sorted(state.clusters):
        cluster = state.clusters[cluster_id]
        if now - cluster.told_at >= (settings.summary_seconds if cluster.changed else settings.tell_every_seconds):
            yield _summarise(state, cluster_id, cluster, now, unix_ns)


def _judge_silence(state: State, machine: Machine, now: float, settings: Settings) -> None:
    if machine.picture.state in SILENT:
        return
    silent = now - max(machine.heard_at, state.resumed_at)
    if silent >= settings.silent_beats * machine.beat_seconds:
        _turn(state, machine, "lost", now)
    elif machine.suspect_seconds is not None and silent >= machine.suspect_seconds and machine.picture.state == "ready":
        _turn(state, machine, "suspect", now)


def _turn(state: State, machine: Machine, into: MachineState, now: float) -> None:
    machine.picture, machine.since = replace(machine.picture, state=into), now
    state.clusters.setdefault(machine.cluster, Cluster()).changed = True


def _is_untold(machine: Machine) -> bool:
    # As a rule it is the same object, and thousands are looked at.
    return machine.picture is not machine.told_picture and machine.picture != machine.told_picture


def _due(machine: Machine, now: float, settings: Settings) -> bool:
    if _is_untold(machine):
        return True
    age = now - machine.told_at
    if machine.attempts != machine.told_attempts:
        return age >= settings.coalesce_seconds
    # Of nodes there are thousands, and their controller's own picture says already that they are heard of.
    return age >= settings.tell_every_seconds and (machine.node is None or age >= machine.beat_seconds)


def _tell(machine: Machine, now: float) -> TellMachine:
    machine.version += 1
    machine.told_at, machine.told_picture, machine.told_attempts = now, machine.picture, machine.attempts
    picture = machine.picture
    seen = MachineSeen(
        cluster=machine.cluster,
        machine=machine.machine,
        pool=picture.pool,
        version=machine.version,
        state=picture.state,
        isolation=picture.isolation,
        labels=list(picture.labels),
        arch=picture.arch,
        allocatable=picture.allocatable,
        attempts=list(machine.attempts),
        session=picture.session,
        seen_unix_ns=machine.seen_unix_ns,
        protocol=picture.protocol,
        node=picture.node,
        images=list(picture.images),
        beat_seconds=machine.beat_seconds,
        suspect_seconds=machine.suspect_seconds,
    )
    return TellMachine(seen, machine.seq)


def _summarise(state: State, cluster_id: str, cluster: Cluster, now: float, unix_ns: int) -> TellCluster:
    machines = [
        machine for machine in state.machines.values() if machine.cluster == cluster_id and machine.machine != KUBE
    ]
    cluster.version += 1
    cluster.told_at, cluster.changed = now, False
    seen = ClusterSeen(
        cluster=cluster_id,
        version=cluster.version,
        pools=list(pools_seen(cluster, machines, now)),
        machines_ready=sum(machine.picture.state == "ready" for machine in machines),
        machines_lost=sum(machine.picture.state == "lost" for machine in machines),
        seen_unix_ns=max((machine.seen_unix_ns for machine in machines), default=unix_ns),
    )
    return TellCluster(seen, cluster.seq)
