"""A job on the real node: a test's hub on a real bus, the real controller on this machine, everything else in pods."""

from pathlib import Path

from shared.kube import Resource
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess
from tests.node import network
from tests.node.node import Node
from tests.node.runtime import BUSYBOX

_PATIENT = {"UNSCHEDULABLE_SECONDS": "60", "MISSING_SECONDS": "20", "VANISH_SECONDS": "15", "OBEY_SECONDS": "20"}


def as_pods_reach(url: str) -> str:
    return url.replace("127.0.0.1", network.HOST)


def controller(node: Node, hub: Hub, namespace: str, identity: str = "one", **settings: str) -> ControllerProcess:
    """Not yet started."""
    images = {"STEP_CTL_IMAGE": node.image("step-ctl"), "DEFAULT_IMAGE": BUSYBOX}
    home = hub.directory / identity
    return ControllerProcess(hub, node.plane.kubeconfig, namespace, home, identity, {**_PATIENT, **images, **settings})


def volume(node: Node, pod: Resource) -> Path:
    """The attempt directory, where the kubelet has it."""
    return node.home / "kubelet/pods" / pod["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/attempt"
