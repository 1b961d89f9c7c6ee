"""The charts: what helm makes of them is what stands in golden/, and what a real API server takes.

`OVERSPILL_WRITE_GOLDEN=1` writes golden/ anew.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.kube_api import KubeServer
from shared.kube import NAMESPACE as NAMESPACES
from shared.kube import Kind, KubeConflict, KubeRefused
from shared.version import VERSION
from tests.kube.control_plane import ControlPlane
from tests.kube.helm import CHARTS, NAMESPACE, attempt, helm, resources, template

GOLDEN = Path(__file__).parent / "golden"
HUB = (
    "--set=nats.url=nats://bus.test:4222,nats.identitySecret=overspill-identity",
    "--set=s3.url=http://s3.test:8333,s3.credentialsSecret=overspill-s3,token.secret=overspill-token",
)
EDGE = ("--set=bus.url=nats://bus.test:4222,bus.credentialSecret=overspill-bus,cluster=c1",)
TRACED = ("--set=telemetry.endpoint=http://collector:4318,telemetry.sampleRatio=0.01",)
BUNDLED = ("--set=nats.bundled.enabled=true,s3.bundled.enabled=true",)
CASES = {
    "overspill-bundled": ("overspill", BUNDLED),
    "overspill-bundled-three": ("overspill", (*BUNDLED, "--set=nats.bundled.replicas=3,collectors.replicas=2")),
    "overspill": ("overspill", HUB),
    "overspill-all": (
        "overspill",
        (
            *(*HUB, *TRACED),
            "--set=s3.publicUrl=https://s3.example.org,hosts={ci.example.org},pullSecrets={registry}",
            "--set=serviceMonitor.enabled=true,serviceMonitor.selector.app=collector,storage.className=fast",
            "--set=settings.OVERSPILL_SCHEDULER_FENCE_SECONDS=60,nodeSelector.disk=ssd,disruptionBudget.maxUnavailable=0",
            "--set=collectors.autoscaling.enabled=true,collectors.autoscaling.maxReplicas=6",
        ),
    ),
    "overspill-edge": ("overspill-edge", EDGE),
    "overspill-edge-all": (
        "overspill-edge",
        (
            *(*EDGE, *TRACED),
            '--set-json=builds.egress=[{"cidr":"10.0.0.7/32","ports":[4222,8333]}]',
            '--set-json=networkPolicy.egress=[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}]',
            "--set=builds.architecture=arm64,settings.unschedulableSeconds=300,pullSecrets={registry}",
            "--set=prepull.images=5,prepull.nodeSelector.pool=fixed",
            '--set-json=prepull.tolerations=[{"key":"builds","operator":"Exists"}]',
        ),
    ),
}
KINDS = {
    "ClusterRole": Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    "ClusterRoleBinding": Kind(
        "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
    ),
    "Deployment": Kind("apps/v1", "Deployment", "deployments"),
    "HorizontalPodAutoscaler": Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    "Job": Kind("batch/v1", "Job", "jobs"),
    "NetworkPolicy": Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    "PodDisruptionBudget": Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    "PriorityClass": Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False),
    "Role": Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    "RoleBinding": Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    "Service": Kind("v1", "Service", "services"),
    "ServiceAccount": Kind("v1", "ServiceAccount", "serviceaccounts"),
    "StatefulSet": Kind("apps/v1", "StatefulSet", "statefulsets"),
}
THEIR_OWN_SERVERS = {"ServiceMonitor"}
"""Kinds that a server has only with somebody's operator."""


@pytest.mark.parametrize("name", CASES)
def test_the_chart_makes_what_the_golden_file_says(name: str) -> None:
    chart, values = CASES[name]
    made, golden = template(chart, *values), GOLDEN / f"{name}.yaml"
    if os.environ.get("OVERSPILL_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(made)
    assert made == golden.read_text()


@pytest.mark.parametrize("name", CASES)
def test_helm_s_linter_has_nothing_against_it(name: str) -> None:
    chart, values = CASES[name]
    helm("lint", "--strict", "--quiet", str(CHARTS / chart), *values)


@pytest.mark.parametrize("name", CASES)
async def test_a_real_api_server_takes_it(api_server: ControlPlane, kube: KubeServer, name: str) -> None:
    with contextlib.suppress(KubeConflict):  # it is there from the case before
        await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    chart, values = CASES[name]
    for resource in resources(template(chart, *values)):
        if resource["kind"] not in THEIR_OWN_SERVERS:
            kind = KINDS[resource["kind"]]
            # With strict validation a field that the server does not know is an error.
            path = f"{kind.path(resource['metadata'].get('namespace'))}?dryRun=All&fieldValidation=Strict"
            taken = api_server.call("POST", path, resource)
            assert taken["metadata"]["name"] == resource["metadata"]["name"]


@pytest.mark.parametrize(
    ("chart", "values", "why"),
    [
        ("overspill", (), "/nats/url"),
        ("overspill", (*HUB, "--set=nats.url=http://bus"), "/nats/url"),
        ("overspill", ("--set=nats.bundled.enabled=true", *HUB), "/nats/url"),
        ("overspill", (*BUNDLED, "--set=nats.bundled.replicas=2"), "/nats/bundled/replicas"),
        ("overspill", (*BUNDLED, "--set=nats.bundled.enabled=false"), "/nats/url"),
        ("overspill", (*HUB, "--set=token.secret="), "/token/secret"),
        ("overspill", (*HUB, "--set=storge.size=1Gi"), "storge"),
        ("overspill", (*HUB, "--set=collectors.replicas=64"), "/collectors/replicas"),
        ("overspill-edge", (), "/bus/url"),
        ("overspill-edge", ("--set=bus.url=nats://b:4222,bus.credentialSecret=s,cluster=My Cluster",), "/cluster"),
        ("overspill-edge", (*EDGE, "--set=replicas=0"), "/replicas"),
    ],
)
def test_values_that_can_t_work_are_refused_by_name(chart: str, values: tuple[str, ...], why: str) -> None:
    told = attempt("template", chart, str(CHARTS / chart), "--kube-version", "1.34.0", *values)
    assert told.returncode != 0
    assert why in told.stderr


def pods(name: str) -> list[dict[str, Any]]:
    chart, values = CASES[name]
    made = resources(template(chart, *values))
    return [each["spec"]["template"]["spec"] for each in made if each["kind"] in ("Deployment", "StatefulSet", "Job")]


@pytest.mark.parametrize("name", CASES)
def test_what_runs_is_locked_down(name: str) -> None:
    for pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["image"].endswith(f":{VERSION}")


async def test_the_controller_s_account_may_what_it_does_and_no_more(
    api_server: ControlPlane, kube: KubeServer, namespace: str
) -> None:
    made = helm(
        *("template", "edge", str(CHARTS / "overspill-edge"), "--namespace", namespace),
        *("--kube-version", "1.34.0", *EDGE),
    )
    for resource in resources(made):
        if resource["kind"] in KINDS and "Role" in resource["kind"] + resource.get("roleRef", {}).get("kind", ""):
            await kube.apply(KINDS[resource["kind"]], resource)
        if resource["kind"] == "ServiceAccount":
            await kube.apply(KINDS["ServiceAccount"], resource)
    async with KubeServer.connect(api_server.account_kubeconfig(namespace, "edge-controller")) as controller:
        await controller.list(Kind("v1", "Pod", "pods"))
        await controller.list(Kind("v1", "Node", "nodes", namespaced=False))
        for forbidden in ("secrets", "configmaps"):
            with pytest.raises(KubeRefused, match="cannot list"):
                await controller.list(Kind("v1", forbidden, forbidden))
        with pytest.raises(KubeRefused, match="cannot list"):
            await controller.list(Kind("apps/v1", "Deployment", "deployments"))
        with pytest.raises(KubeRefused, match="cannot get"):
            await controller.get(Kind("v1", "Secret", "secrets"), "overspill-bus", namespace)
