"""What the kubelet's probes found: it counts each, by container, kind and result."""

import re
from typing import Any

from tests.node.node import Node

_COUNTED = re.compile(r"^prober_probe_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_KINDS = {"startupProbe": "Startup", "livenessProbe": "Liveness", "readinessProbe": "Readiness"}


def until_all_passed(node: Node, namespace: str) -> set[tuple[str, str]]:
    """Every probe of every container there was run and went well; all are ready, and none was ever started again.
    Returns what was probed: container and kind.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    node.plane.until("kubelet", lambda: not _missing(node, node.plane.call("GET", path)["items"]))
    pods = node.plane.call("GET", path)["items"]
    for status in (each for pod in pods for each in pod["status"]["containerStatuses"]):
        assert (status["ready"], status["restartCount"]) == (True, 0), status
    return {(container, kind) for _, container, kind in _wanted(pods)}


def _missing(node: Node, pods: list[Any]) -> set[tuple[str, str, str]]:
    passed = set()
    for told in _COUNTED.finditer(node.plane.text("/metrics/probes", node.kubelet_url)):
        labels = dict(_LABEL.findall(told[1]))
        if labels["result"] == "successful" and float(told[2]) > 0:
            passed.add((labels["pod_uid"], labels["container"], labels["probe_type"]))
    return _wanted(pods) - passed


def _wanted(pods: list[Any]) -> set[tuple[str, str, str]]:
    return {
        (pod["metadata"]["uid"], container["name"], kind)
        for pod in pods
        for container in pod["spec"]["containers"]
        for name, kind in _KINDS.items()
        if name in container
    }
