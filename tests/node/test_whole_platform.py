"""Hub and edge from their charts on one real node, and a job through both: what `helm install` twice gives."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.docker.contents import USER
from shared.adapters.kube_api import KubeServer
from shared.adapters.nats_permissions import SEEDER
from shared.flow import CLUSTERS
from shared.kube import POD, SECRET, Kind
from shared.parties import controller_party
from shared.settings import ObjectSettings
from shared.tenancy import ClusterPool, ClusterRecord
from shared.wire import encode
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, ROOT
from tests.kube.helm import CHARTS, helm
from tests.node import edge
from tests.node.node import Node
from tests.node.platform import TENANT_NAMESPACE, clear, remove
from tests.node.runtime import BUSYBOX

VOLUME = Kind("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
SPEC = """
name: greeting
steps:
  - run: echo "hello from a pod" | tee greeting
  - run: test "$(cat greeting)" = "hello from a pod"
"""


@pytest.fixture
async def secrets_made(
    kube: KubeServer, namespace: str, fresh_bus_server: BusServer, object_store: ObjectSettings
) -> dict[str, str]:
    """By what they are for: what an operator makes before `helm install`. Returns the operator's token too."""
    identity = fresh_bus_server.identity
    assert object_store.credentials_file is not None
    token = f"osp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
    credential = identity.credential(controller_party(CLUSTER), cluster=CLUSTER)
    contents = {
        "identity": {
            f"{name}.seed": (identity.directory / f"{name}.seed").read_text() for name in ("system", "hub", "operator")
        },
        "s3": {"credentials": object_store.credentials_file.read_text()},
        "token": {"token": token},
        "bus": {"controller.creds": credential.to_file_text()},
    }
    for name, data in contents.items():
        about = {"name": f"overspill-{name}", "namespace": namespace}
        await kube.create(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": data})
    return {"token": token}


@pytest.fixture
async def disk(node: Node, kube: KubeServer, namespace: str, fresh_bus_server: BusServer) -> AsyncIterator[Path]:
    """The hub's, with the accounts that the bus has already."""
    folder = node.home / "disks" / namespace
    shutil.copytree(fresh_bus_server.identity.directory, folder / "identity")
    for each in (folder, *folder.rglob("*")):
        os.chown(each, USER, USER)
    volume: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
            "claimRef": {"namespace": namespace, "name": "data-hub-hub-0"},
        },
    }
    await kube.create(VOLUME, volume)
    yield folder
    await kube.delete(VOLUME, namespace)


async def install(node: Node, namespace: str, name: str, chart: str, values: dict[str, str]) -> None:
    words = [f"--set={key}={value}" for key, value in values.items()]
    into = ("--namespace", namespace, "--wait", "--timeout", "240s")
    await asyncio.to_thread(helm, "install", name, str(CHARTS / chart), *into, *words, kubeconfig=node.plane.kubeconfig)


@pytest.mark.usefixtures("disk")
async def test_a_job_goes_from_the_command_line_through_hub_and_edge_to_its_pod_and_back(
    node: Node,
    kube: KubeServer,
    namespace: str,
    secrets_made: dict[str, str],
    fresh_bus_server: BusServer,
    object_store: ObjectSettings,
    tmp_path: Path,
) -> None:
    node.image("services")
    node.image("step-ctl")
    bus, store = edge.as_pods_reach(fresh_bus_server.url), edge.as_pods_reach(object_store.url)
    hub = {
        "nats.url": bus,
        "nats.identitySecret": "overspill-identity",
        "s3.url": store,
        "s3.bucket": object_store.bucket,
        "s3.credentialsSecret": "overspill-s3",
        "token.secret": "overspill-token",
        "hosts": "{*}",  # this machine asks by the pod's address
    }
    await install(node, namespace, "hub", "overspill", hub)
    record = ClusterRecord(cluster=CLUSTER, bus_urls=[bus], pools=[ClusterPool(pool="nodes", kind="fixed")])
    async with fresh_bus_server.connect(fresh_bus_server.identity.credential(SEEDER)) as seeder:
        await seeder.bucket(CLUSTERS).put(CLUSTER, encode(record))
    joining = {"bus.url": bus, "bus.credentialSecret": "overspill-bus", "cluster": CLUSTER}
    await install(node, namespace, "edge", "overspill-edge", {**joining, "builds.defaultImage": BUSYBOX})

    spec = tmp_path / "build.yaml"
    spec.write_text(SPEC)
    address = (await kube.get(POD, "hub-hub-0", namespace))["status"]["podIP"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OVERSPILL_URL": f"http://{address}:8080",
        "OVERSPILL_TOKEN": secrets_made["token"],
    }
    command = [sys.executable, "-m", "overspill", "run", str(spec), "--no-source"]
    told = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    logs = "".join(
        node.plane.text(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log")[-3000:]
        for pod in (await kube.list(POD, namespace)).items
    )
    assert told.returncode == 0, f"{told.stdout}{told.stderr}\n{logs}"
    assert "hello from a pod" in told.stdout
    await asyncio.to_thread(clear, node.plane, TENANT_NAMESPACE)
    for name in ("edge", "hub"):
        await asyncio.to_thread(helm, "uninstall", name, "--namespace", namespace, kubeconfig=node.plane.kubeconfig)
    await asyncio.to_thread(remove, node.plane, TENANT_NAMESPACE)
