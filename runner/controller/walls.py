"""A tenant's walls in a cluster, as the objects that make them. Pure; the controller applies them again and again.

Builds run whatever their authors wrote. So a pod reaches the public internet, DNS, the bus and the object store, and
nothing of the private network around it: not the nodes, not the cluster's services, not the cloud's metadata address.
Nothing reaches a pod.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runner.controller.manifest import ENTRYPOINTS
from runner.controller.model import APP, TENANT
from shared.kube import Resource
from shared.walls import Egress, Quota, TenantWalls

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
"""RFC 1918, link-local with the metadata address (RFC 3927), and carriers' shared range (RFC 6598), which clouds use
for metadata and services too."""
PRIVATE_6 = ("fc00::/7", "fe80::/10")
DNS_PORT = 53
MANAGED = {"app.kubernetes.io/managed-by": "overspill"}
QUOTA = "overspill-quota"
DEFAULT_CPU, DEFAULT_MEMORY = "250m", "512Mi"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every tenant's pods of this cluster need to reach."""

    platform: tuple[Egress, ...] = ()
    """Bus and object store."""
    dns_namespace: Mapping[str, str] = field(default_factory=lambda: {"kubernetes.io/metadata.name": "kube-system"})
    dns_pods: Mapping[str, str] = field(default_factory=lambda: {"k8s-app": "kube-dns"})
    dns_addresses: tuple[Egress, ...] = ()
    """Where DNS is no pod of the cluster, as a node-local cache."""


def walls(tenant: TenantWalls, around: Surroundings, entrypoints: Mapping[str, bytes]) -> Iterator[Resource]:
    """In the order in which they have to be there. `entrypoints`: binaries by architecture, in a ConfigMap each."""
    for namespace in tenant.namespaces:
        yield _namespace(tenant, namespace)
        yield _account(tenant, namespace)
        yield _policy(tenant, namespace, around)
        yield _limits(tenant, namespace)
        if tenant.quota != Quota():
            yield _quota(tenant, namespace)
        yield _entrypoints(tenant, namespace, entrypoints)


def _about(tenant: TenantWalls, namespace: str, name: str) -> Resource:
    return {"name": name, "namespace": namespace, "labels": {**MANAGED, TENANT: tenant.tenant}}


def _namespace(tenant: TenantWalls, namespace: str) -> Resource:
    # `baseline` refuses host namespaces, host paths and privileged containers, and leaves images that run as root.
    level = {f"pod-security.kubernetes.io/{mode}": "baseline" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {**MANAGED, TENANT: tenant.tenant, **level}},
    }


def _account(tenant: TenantWalls, namespace: str) -> Resource:
    """Kubernetes makes it too, some time later; until then it refuses pods."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _about(tenant, namespace, "default"),
        "automountServiceAccountToken": False,
    }


def _policy(tenant: TenantWalls, namespace: str, around: Surroundings) -> Resource:
    allowed = [*around.platform, *around.dns_addresses, *tenant.egress]
    dns = {
        "to": [
            {
                "namespaceSelector": {"matchLabels": dict(around.dns_namespace)},
                "podSelector": {"matchLabels": dict(around.dns_pods)},
            }
        ],
        "ports": [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")],
    }
    internet = {
        "to": [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(PRIVATE)}},
            {"ipBlock": {"cidr": "::/0", "except": list(PRIVATE_6)}},
        ]
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _about(tenant, namespace, "overspill-builds"),
        "spec": {
            "podSelector": {"matchLabels": {"app": APP}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [dns, internet, *(_rule(each) for each in allowed)],
        },
    }


def _rule(egress: Egress) -> Resource:
    to: Resource = {"to": [{"ipBlock": {"cidr": str(egress.cidr)}}]}
    if egress.ports:
        to["ports"] = [{"protocol": "TCP", "port": port} for port in egress.ports]
    return to


def _limits(tenant: TenantWalls, namespace: str) -> Resource:
    """For pods that somebody else makes here: what asks for nothing would be placed anywhere and starve others."""
    amounts = {"cpu": DEFAULT_CPU, "memory": DEFAULT_MEMORY}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": _about(tenant, namespace, "overspill-defaults"),
        "spec": {"limits": [{"type": "Container", "default": amounts, "defaultRequest": amounts}]},
    }


def _quota(tenant: TenantWalls, namespace: str) -> Resource:
    quota = tenant.quota
    hard = {
        "requests.cpu": None if quota.cpu_millis is None else f"{quota.cpu_millis}m",
        "requests.memory": None if quota.memory_bytes is None else str(quota.memory_bytes),
        "pods": None if quota.pods is None else str(quota.pods),
    }
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": _about(tenant, namespace, QUOTA),
        "spec": {"hard": {name: amount for name, amount in hard.items() if amount is not None}},
    }


def _entrypoints(tenant: TenantWalls, namespace: str, binaries: Mapping[str, bytes]) -> Resource:
    return entrypoints(_about(tenant, namespace, ENTRYPOINTS), binaries)


def entrypoints(about: Resource, binaries: Mapping[str, bytes]) -> Resource:
    """The ConfigMap that brings the binaries to containers."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": about,
        "immutable": True,
        "binaryData": {arch: base64.b64encode(data).decode() for arch, data in sorted(binaries.items())},
    }
