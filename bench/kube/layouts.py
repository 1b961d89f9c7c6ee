"""The pods that ours stand beside, made of ours: the same volumes, image, limits and privileges."""

import copy
from typing import Any

from runner.controller.making import Site, objects
from runner.controller.model import STEP_CTL
from shared.facts import Order
from shared.kube import Resource
from shared.requests import Grant
from tests.node import network
from tests.node.runtime import BUSYBOX

SAY = "echo"


def raw(ours: Resource, name: str, script: str = SAY) -> Resource:
    """All steps' containers at once, no step-ctl and no entrypoint."""
    pod = _bare(ours, name)
    pod["spec"]["containers"] = [_runs(each, script) for each in _steps(ours)]
    return pod


def one_zero(ours: Resource, name: str, port: int, script: str = SAY) -> Resource:
    """The older design: each step an init container, so that the kubelet orders them, with a process of its own that
    reports when the step is over.
    """
    pod = _bare(ours, name)
    report = f"({script}); echo $? >/overspill/job/code; nc -w 5 {network.HOST} {port} </overspill/job/code"
    pod["spec"]["initContainers"] = [_runs(each, report) for each in _steps(ours)]
    pod["spec"]["containers"] = [_runs(_steps(ours)[0] | {"name": "last"}, ":")]
    return pod


def _steps(ours: Resource) -> list[Resource]:
    return [each for each in ours["spec"]["containers"] if each["name"] != STEP_CTL]


def _bare(ours: Resource, name: str) -> Resource:
    pod: dict[str, Any] = copy.deepcopy(ours)
    pod["metadata"] = {"name": name, "namespace": ours["metadata"]["namespace"]}
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def _runs(container: Resource, script: str) -> Resource:
    return container | {"image": BUSYBOX, "command": ["sh", "-c", script]}


def made(order: Order, grant: Grant, site: Site) -> tuple[Resource, Resource]:
    """Secret and pod of an order, as the controller makes them."""
    both = objects(order, grant, site, 0)
    return both.secret, both.pod
