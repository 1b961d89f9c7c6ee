"""What the controller writes is what a real API server takes, with admission, quotas and garbage collection at work."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from runner.controller.manifest import pod, secret
from runner.controller.pods import read
from runner.controller.wall_keeping import KINDS
from runner.controller.walls import Surroundings, walls
from shared.adapters.kube_api import KubeServer
from shared.ids import random_id
from shared.kube import LIMIT_RANGE, NETWORK_POLICY, POD, SECRET, Kind, KubeRefused, Resource
from shared.walls import Egress, Quota, TenantWalls
from tests.kube.control_plane import ControlPlane
from tests.kube.pod_plans import ONE, PLANS

AROUND = Surroundings(platform=(Egress(cidr="10.9.0.0/24", ports=[4222]),))


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubeServer]:
    async with KubeServer.connect(control_plane.kubeconfig) as api:
        yield api


@pytest.fixture
def tenant() -> TenantWalls:
    name = f"t-{random_id()[:12]}"
    return TenantWalls(
        tenant=name,
        namespaces=[f"overspill-{name}"],
        quota=Quota(cpu_millis=4000, memory_bytes=2**33, pods=3),
        egress=[Egress(cidr="192.168.7.0/24")],
    )


async def build(api: KubeServer, tenant: TenantWalls) -> list[Resource]:
    return [await api.apply(KINDS[each["kind"]], each) for each in walls(tenant, AROUND, {"amd64": b"\x7fELF"})]


def versions(resources: list[Resource]) -> dict[str, Any]:
    return {each["kind"]: each["metadata"]["resourceVersion"] for each in resources}


async def test_walls_built_again_change_nothing(admin: KubeServer, tenant: TenantWalls) -> None:
    first = await build(admin, tenant)
    again = versions(await build(admin, tenant))
    quiet = {kind: version for kind, version in versions(first).items() if kind != "ResourceQuota"}
    assert {kind: again[kind] for kind in quiet} == quiet  # a quota's status is the server's own


async def test_a_hole_in_a_wall_is_mended(admin: KubeServer, tenant: TenantWalls) -> None:
    await build(admin, tenant)
    namespace = tenant.namespaces[0]
    policy = await admin.get(NETWORK_POLICY, "overspill-builds", namespace)
    policy["spec"]["egress"] = [{}]
    await admin.replace(NETWORK_POLICY, policy)
    await admin.delete(LIMIT_RANGE, "overspill-defaults", namespace)
    await build(admin, tenant)
    mended = await admin.get(NETWORK_POLICY, "overspill-builds", namespace)
    assert {} not in mended["spec"]["egress"]
    await admin.get(LIMIT_RANGE, "overspill-defaults", namespace)


@pytest.mark.parametrize("name", PLANS)
async def test_every_kind_of_pod_is_admitted_within_the_walls(
    admin: KubeServer, control_plane: ControlPlane, tenant: TenantWalls, name: str
) -> None:
    await build(admin, tenant)
    namespace = tenant.namespaces[0]
    await control_plane.until_account(namespace)
    plan = replace(PLANS[name], namespace=namespace)
    if plan.template.runtime_class is not None:
        control_plane.add_runtime_class(plan.template.runtime_class)
    steps = {f"{number:03d}": b"" for number in range(1, len(plan.spec.steps) + 1)}
    await admin.create(SECRET, secret(plan, steps, b"{}"))
    made = await admin.create(POD, pod(plan))
    assert "warnings" not in made
    seen = read(made)
    assert seen.key == plan.key
    assert sum(len(steps) for steps in seen.steps.values()) == len(plan.spec.steps)


async def test_a_pod_over_the_quota_is_refused_with_the_quota_s_name(
    admin: KubeServer, control_plane: ControlPlane, tenant: TenantWalls
) -> None:
    await build(admin, tenant)
    namespace = tenant.namespaces[0]
    await control_plane.until_account(namespace)
    for number in range(3):
        key = replace(ONE.key, job=f"j{number}")
        await admin.create(POD, pod(replace(ONE, namespace=namespace, key=key)))
    with pytest.raises(KubeRefused, match="exceeded quota: overspill-quota") as refusal:
        await admin.create(POD, pod(replace(ONE, namespace=namespace)))
    assert refusal.value.status == 403


async def test_a_privileged_pod_is_refused_whoever_makes_it(
    admin: KubeServer, control_plane: ControlPlane, tenant: TenantWalls
) -> None:
    await build(admin, tenant)
    namespace = tenant.namespaces[0]
    await control_plane.until_account(namespace)
    made = pod(replace(ONE, namespace=namespace))
    made["spec"]["containers"][1]["securityContext"] = {"privileged": True}
    with pytest.raises(KubeRefused, match="PodSecurity"):
        await admin.create(POD, made)


def test_every_wall_has_its_kind(tenant: TenantWalls) -> None:
    made: dict[str, Kind] = {each["kind"]: KINDS[each["kind"]] for each in walls(tenant, AROUND, {})}
    assert set(made) == set(KINDS)
