"""What Kubernetes' own controllers and scheduler do to pods, and what becomes of their orders."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from shared.kube import CONFIG_MAP, NAMESPACE, RESOURCE_QUOTA, SECRET, Resource
from shared.lifecycle import Reason
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import Quota, TenantWalls
from tests.conftest import BusServer
from tests.integration.runner.hub import TENANT, Hub
from tests.integration.runner.waiting import until_written
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet

SPEC = {"name": "build", "steps": [{"run": "make"}]}


@pytest.fixture
def plane(control_plane: ControlPlane) -> ControlPlane:
    return control_plane


def change(hub: Hub, *, template: PodTemplate | None = None, quota: Quota | None = None) -> None:
    assert hub.pod is not None
    walls = TenantWalls(tenant=TENANT, namespaces=[hub.pod.namespace], quota=quota or Quota())
    template = template or PodTemplate()
    hub.pod = PodGrant(pool="fixed", namespace=hub.pod.namespace, template=template, walls=walls)


def _used(quota: Resource | None) -> str:
    return str((quota or {}).get("status", {}).get("used", {}).get("pods", ""))


async def test_a_pod_over_its_tenant_s_quota_is_handed_back_with_the_quota_s_name(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    change(hub, quota=Quota(pods=1))
    first = name_of(await hub.order(SPEC, "kube"))
    await kubelet.pod(first)
    # A quota that Kubernetes' own controller has not read yet holds nobody back.
    await kubelet.until("overspill-quota", lambda quota: _used(quota) == "1", RESOURCE_QUOTA)
    ended = await hub.ended(await hub.order(SPEC, "kube"))
    assert (ended.outcome, ended.reason) == ("error", Reason.UNSCHEDULABLE)
    assert "overspill-quota" in ended.message
    secrets = (await kubelet.api.list(SECRET, kubelet.namespace)).items
    assert [secret["metadata"]["name"] for secret in secrets] == [first]


async def test_a_pod_that_is_not_admitted_is_refused_with_the_cluster_s_words(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    change(hub, template=PodTemplate(runtime_class="no-such-runtime"))
    ended = await hub.ended(await hub.order(SPEC, "kube"))
    assert (ended.outcome, ended.reason) == ("error", Reason.REFUSED)
    assert "no-such-runtime" in ended.message


async def test_a_pod_that_no_node_has_room_for_is_handed_back_by_kube_scheduler_s_own_words(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    change(hub, template=PodTemplate(node_selector={"nobody": "has-it"}))
    order = await hub.order(SPEC, "kube")
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", Reason.UNSCHEDULABLE)
    assert "no nodes available" in ended.message or "nodes are available" in ended.message
    await kubelet.until_gone(name_of(order))


async def test_an_evicted_pod_is_told_as_evicted(hub: Hub, controller: ControllerProcess, kubelet: Kubelet) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await kubelet.evict(name)
    assert (await hub.ended(order)).reason is Reason.EVICTED
    await kubelet.obey(name)
    await kubelet.until_gone(name)


async def test_a_namespace_deleted_under_a_pod_ends_its_attempt_and_holds_nothing_back(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet, plane: ControlPlane
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    plane.call("DELETE", f"/api/v1/namespaces/{kubelet.namespace}")
    await kubelet.obey(name)
    assert (await hub.ended(order)).outcome == "error"
    await kubelet.until_namespace_gone()


@asynccontextmanager
async def going(kubelet: Kubelet) -> AsyncIterator[None]:
    """The tenant's namespace is being deleted until the end of this; something in it takes its time."""
    about = {"name": "holds-it", "namespace": kubelet.namespace, "finalizers": ["overspill.dev/test"]}
    await kubelet.api.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about})
    await kubelet.api.delete(NAMESPACE, kubelet.namespace)
    await kubelet.until(kubelet.namespace, lambda found: found["status"]["phase"] == "Terminating", NAMESPACE)
    yield
    await kubelet.api.merge(CONFIG_MAP, "holds-it", kubelet.namespace, {"metadata": {"finalizers": None}})


async def with_walls(hub: Hub, kubelet: Kubelet) -> None:
    """The tenant's namespace stands, and nothing runs in it."""
    name = name_of(await hub.order(SPEC, "kube"))
    await kubelet.run(name)
    await kubelet.end(name)
    await kubelet.until_gone(name)


async def test_a_job_whose_namespace_is_being_deleted_waits_and_runs_in_the_one_made_after_it(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    controller = controllers(UNSCHEDULABLE_SECONDS="60")
    await with_walls(hub, kubelet)
    async with going(kubelet):
        order = await hub.order(SPEC, "kube")
        await until_written(controller.home / "controller.err", b"being terminated")
    await kubelet.pod(name_of(order))
    assert await hub.kinds(order.job) == ["attempt-accepted"]
    labels = (await kubelet.api.get(NAMESPACE, kubelet.namespace))["metadata"]["labels"]
    assert labels["overspill.dev/tenant"] == TENANT


async def test_a_job_whose_namespace_does_not_go_in_time_is_handed_back_with_why(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    await with_walls(hub, kubelet)
    async with going(kubelet):
        ended = await hub.ended(await hub.order(SPEC, "kube"))
    assert (ended.outcome, ended.reason) == ("error", Reason.UNSCHEDULABLE)
    assert "is being deleted" in ended.message
    assert kubelet.namespace in ended.message


async def test_who_waits_for_a_namespace_takes_no_other_tenant_s_turn(
    fresh_bus_server: BusServer, hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    assert hub.pod is not None
    controller = controllers(UNSCHEDULABLE_SECONDS="60", CLAIMS_AT_ONCE="1")
    await with_walls(hub, kubelet)
    other = await fresh_bus_server.tenant()
    walls = TenantWalls(tenant=other, namespaces=[f"of-{other}"])
    hub.pods[other] = hub.pod.model_copy(update={"namespace": f"of-{other}", "walls": walls})
    async with going(kubelet):
        await hub.order(SPEC, "kube")
        await until_written(controller.home / "controller.err", b"being terminated")
        order = await hub.order(SPEC, "kube", tenant=other)
        await Kubelet(kubelet.api, f"of-{other}").pod(name_of(order))
