"""The secrets of a hub whose bus and store come with it: made once, whoever upgrades, with the hook's rights alone."""

import base64
from pathlib import Path

import pytest

from overspill.bundled_keys import ReplicasFixed, Settings, make
from shared.adapters.kube_api import KubeServer
from shared.kube import SECRET, KubeRefused
from tests.kube.control_plane import ControlPlane
from tests.kube.helm import CHARTS, helm, resources
from tests.kube.test_charts import BUNDLED, KINDS

NAMES = ("hub-identity", "hub-token", "hub-objects")


def settings(namespace: str, servers: int = 1) -> Settings:
    return Settings(
        namespace=namespace,
        identity_secret="hub-identity",
        bus_secret="hub-nats",
        token_secret="hub-token",
        objects_secret="hub-objects",
        bus_servers=[f"bus-{number}:6222" for number in range(servers)],
    )


@pytest.fixture
async def hook(api_server: ControlPlane, kube: KubeServer, namespace: str) -> Path:
    """A kubeconfig with what the chart gives its hook."""
    made = helm(
        "template", "hub", str(CHARTS / "overspill"), "--namespace", namespace, "--kube-version", "1.34.0", *BUNDLED
    )
    for resource in resources(made):
        if resource["kind"] in ("Role", "RoleBinding", "ServiceAccount"):
            await kube.apply(KINDS[resource["kind"]], resource)
    return api_server.account_kubeconfig(namespace, "hub-keys")


async def contents(kube: KubeServer, namespace: str) -> list[dict[str, str]]:
    return [(await kube.get(SECRET, name, namespace))["data"] for name in NAMES]


async def test_an_upgrade_keeps_the_keys_that_the_install_made(hook: Path, kube: KubeServer, namespace: str) -> None:
    async with KubeServer.connect(hook) as api:
        await make(api, settings(namespace))
        first = await contents(kube, namespace)
        await make(api, settings(namespace))
    assert await contents(kube, namespace) == first
    told = base64.b64decode((await kube.get(SECRET, "hub-nats", namespace))["data"]["nats.conf"]).decode()
    assert "server_name: $POD_NAME" in told
    assert "cluster {" not in told


async def test_a_bus_of_one_server_is_not_silently_made_one_of_three(
    hook: Path, kube: KubeServer, namespace: str
) -> None:
    async with KubeServer.connect(hook) as api:
        await make(api, settings(namespace))
        with pytest.raises(ReplicasFixed, match=r"nats\.bundled\.replicas=1"):
            await make(api, settings(namespace, servers=3))


async def test_the_hook_may_read_no_secret_but_its_own(hook: Path, namespace: str) -> None:
    async with KubeServer.connect(hook) as api:
        with pytest.raises(KubeRefused, match="cannot get"):
            await api.get(SECRET, "somebody-elses", namespace)
        with pytest.raises(KubeRefused, match="cannot list"):
            await api.list(SECRET, namespace)
