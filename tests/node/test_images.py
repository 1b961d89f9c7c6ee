"""The images run as charts and pods run them: no root, nothing to write to, no capability, no shell."""

import pytest

from shared.adapters.kube_api import KubeServer
from shared.kube import POD, Resource
from tests.node import pods
from tests.node.node import Node

_STEP_CTL = "import runner.step_ctl.wiring, shared.exporting, uvloop"
_SERVICES = """
import overspill.hub, runner.agent.wiring, runner.controller.__main__, shared.exporting
from runner.entrypoint.build import binary
import subprocess
assert subprocess.run([binary(), "version"], capture_output=True).returncode == 0
"""


def locked(namespace: str, image: str, *command: str) -> Resource:
    pod = pods.raw_pod(namespace, "one", "")
    pod["spec"]["containers"][0] |= {
        "image": image,
        "command": list(command),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return pod


@pytest.mark.parametrize(("kind", "program"), [("step-ctl", _STEP_CTL), ("services", _SERVICES)])
async def test_an_image_has_all_that_its_programs_load(
    node: Node, kube: KubeServer, namespace: str, kind: str, program: str
) -> None:
    image = node.image(kind)
    await kube.create(POD, locked(namespace, image, "python3", "-c", program))
    pod = await pods.until(kube, namespace, "one", pods.is_over)
    assert pod["status"]["phase"] == "Succeeded", node.plane.text(f"/api/v1/namespaces/{namespace}/pods/one/log")


async def test_step_ctl_is_what_its_image_runs(node: Node, kube: KubeServer, namespace: str) -> None:
    made = locked(namespace, node.image("step-ctl"))
    made["spec"]["containers"][0] |= {"args": ["--help"]}
    del made["spec"]["containers"][0]["command"]
    await kube.create(POD, made)
    pod = await pods.until(kube, namespace, "one", pods.is_over)
    told = node.plane.text(f"/api/v1/namespaces/{namespace}/pods/one/log")
    assert pod["status"]["phase"] == "Succeeded", told
    assert "--attempt FILE" in told
