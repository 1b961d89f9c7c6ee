"""Which pool a Kubernetes node belongs to, by the pools' records. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.facts.machine import NodeSeen, Taint
from shared.tenancy import ClusterPool


def pool_of(node: NodeSeen, pools: Iterable[ClusterPool]) -> str | None:
    """The `fixed` pool whose pods would be scheduled there; the one that asks for most labels, when several do. None
    for nodes of no pool, and for virtual ones, which stand for a serverless pool.
    """
    if node.virtual:
        return None
    asking = [pool for pool in pools if pool.kind == "fixed" or (pool.kind == "serverless" and pool.pod.node_selector)]
    for pool in sorted(asking, key=lambda pool: -len(pool.pod.node_selector)):
        if not pool.pod.node_selector.items() <= node.labels.items():
            continue
        if pool.kind == "serverless":
            return None
        if all(_is_tolerated(taint, pool.pod.tolerations) for taint in node.taints):
            return pool.pool
    return None


def virtual_pool_of(node: NodeSeen, pools: Iterable[ClusterPool]) -> str | None:
    """The `serverless` pool that a virtual node stands for: the one whose pods ask for its labels, else the first."""
    serverless = [pool for pool in pools if pool.kind == "serverless"]
    asking = [pool for pool in serverless if pool.pod.node_selector]
    matching = [pool for pool in asking if pool.pod.node_selector.items() <= node.labels.items()]
    if not matching and not node.virtual:
        return None
    return next((pool.pool for pool in (*matching, *serverless)), None)


def _is_tolerated(taint: Taint, tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """As kube-scheduler decides it."""
    return taint.effect == "PreferNoSchedule" or any(_tolerates(each, taint) for each in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    key, effect = toleration.get("key") or "", toleration.get("effect") or ""
    if effect not in ("", taint.effect):
        return False
    if toleration.get("operator") == "Exists":
        return key in ("", taint.key)
    return key == taint.key and (toleration.get("value") or "") == taint.value
