"""What Kubernetes' own controllers and scheduler do to pods, and what becomes of their orders."""

import pytest

from shared.kube import RESOURCE_QUOTA, SECRET, Resource
from shared.lifecycle import Reason
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import Quota, TenantWalls
from tests.integration.runner.hub import TENANT, Hub
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
