"""The whole platform on the node, as its charts bring it: hub with bus and object store, and an edge that joined."""

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.docker.contents import USER
from tests.integration.runner.hub import ROOT
from tests.kube.control_plane import ControlPlane
from tests.kube.helm import CHARTS, helm
from tests.node.node import Node
from tests.node.runtime import BUSYBOX

CLUSTER = "here"
HUB = {
    "nats.bundled.enabled": "true",
    "s3.bundled.enabled": "true",
    "hosts": "{*}",  # this machine asks by the pod's address
}
EDGE = {"builds.defaultImage": BUSYBOX}
TENANT_NAMESPACE = "overspill-default"
_IMAGES = ("services", "step-ctl", "one-machine")
_DISKS = ("data-hub-hub-0", "data-hub-nats-0", "data-hub-objects-0")


@dataclass
class Platform:
    """`scratch`: a folder for what an operator keeps, as the edge's credential."""

    node: Node
    namespace: str
    scratch: Path

    def prepare(self) -> None:
        """What a cluster brings: images, a namespace, disks."""
        for kind in _IMAGES:
            self.node.image(kind)
        plane = self.node.plane
        about = {"name": self.namespace}
        plane.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": about})
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        plane.until("kube-controller-manager", lambda: plane.call("GET", f"{accounts}/default"))
        for claim in _DISKS:
            folder = self.node.home / "disks" / self.namespace / claim
            folder.mkdir(parents=True)
            os.chown(folder, USER, USER)
            plane.call("POST", "/api/v1/persistentvolumes", self._disk(claim, folder))

    def _disk(self, claim: str, folder: Path) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.namespace}-{claim}"},
            "spec": {
                "capacity": {"storage": "20Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": self.namespace, "name": claim},
            },
        }

    def install_hub(self) -> None:
        self.helm("install", "hub", "overspill", HUB)

    def join(self) -> dict[str, str]:
        """What the edge's chart is to be given, as `overspill clusters join` says; the secret is there."""
        file = self.scratch / f"{CLUSTER}.creds"
        bus = f"nats://hub-nats.{self.namespace}.svc:4222"
        told = self.overspill("clusters", "join", CLUSTER, "--bus", bus, f"--credential={file}", "--json")
        assert told.returncode == 0, f"{told.stdout}{told.stderr}"
        values: dict[str, str] = json.loads(told.stdout)["values"]
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": values["bus.credentialSecret"]},
            "stringData": {"controller.creds": file.read_text()},
        }
        self.node.plane.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", secret)
        return values

    def install_edge(self, joining: dict[str, str]) -> None:
        self.helm("install", "edge", "overspill-edge", EDGE | joining)

    def helm(self, verb: str, name: str, chart: str, values: dict[str, str]) -> None:
        """Install or upgrade, and wait until all of it is ready. Fails with what its pods wrote."""
        words = [f"--set={key}={value}" for key, value in values.items()]
        into = ("--namespace", self.namespace, "--wait", "--timeout", "240s")
        try:
            helm(verb, name, str(CHARTS / chart), *into, *words, kubeconfig=self.node.plane.kubeconfig)
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.logs()}") from None

    def environment(self) -> dict[str, str]:
        """The command line's: where the hub is now, and the operator's token."""
        within = f"/api/v1/namespaces/{self.namespace}"
        address = self.node.plane.call("GET", f"{within}/pods/hub-hub-0")["status"]["podIP"]
        secret = self.node.plane.call("GET", f"{within}/secrets/hub-token")["data"]["token"]
        return {"OVERSPILL_URL": f"http://{address}:8080", "OVERSPILL_TOKEN": base64.b64decode(secret).decode()}

    def overspill(self, *words: str, seconds: float = 240) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **self.environment(), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "overspill", *words]
        return subprocess.run(
            command, env=environment, cwd=self.scratch, capture_output=True, text=True, timeout=seconds, check=False
        )

    def logs(self) -> str:
        """How each pod is, and the end of what each container wrote."""
        told = []
        within = f"/api/v1/namespaces/{self.namespace}/pods"
        for pod in self.node.plane.call("GET", within)["items"]:
            name = pod["metadata"]["name"]
            for status in pod["status"].get("containerStatuses", ()):
                told.append(f"--- {name} {status['name']} {status['state']}")
                if "waiting" not in status["state"]:
                    told.append(self.node.plane.text(f"{within}/{name}/log?container={status['name']}")[-3000:])
        return "\n".join(told)

    def take_away(self) -> None:
        plane = self.node.plane
        clear(plane, TENANT_NAMESPACE)
        for name in ("edge", "hub"):
            helm("uninstall", name, "--namespace", self.namespace, "--ignore-not-found", kubeconfig=plane.kubeconfig)
        remove(plane, self.namespace, TENANT_NAMESPACE)
        for claim in _DISKS:
            plane.call("DELETE", f"/api/v1/persistentvolumes/{self.namespace}-{claim}")


def clear(plane: ControlPlane, namespace: str) -> None:
    """Of pods; while their controller is there, since they stay until it has let go of them."""
    if namespace in _namespaces(plane):
        path = f"/api/v1/namespaces/{namespace}/pods"
        plane.call("DELETE", path)
        plane.until("kube-controller-manager", lambda: not plane.call("GET", path)["items"])


def remove(plane: ControlPlane, *namespaces: str) -> None:
    """And wait until they are gone: one that is going takes nothing new."""
    for namespace in _namespaces(plane) & set(namespaces):
        plane.call("DELETE", f"/api/v1/namespaces/{namespace}")
    plane.until("kube-controller-manager", lambda: not _namespaces(plane) & set(namespaces))


def _namespaces(plane: ControlPlane) -> set[str]:
    return {each["metadata"]["name"] for each in plane.call("GET", "/api/v1/namespaces")["items"]}
