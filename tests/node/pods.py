"""Pods that a test makes by hand, and waiting for what becomes of them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from shared.adapters.kube_api import KubeServer
from shared.clock import SystemClock
from shared.kube import POD, Resource
from shared.kube_following import Change, Listed, Selection, follow
from tests.node.runtime import BUSYBOX

PATIENCE_SECONDS = 90


def raw_pod(namespace: str, name: str, *scripts: str, **spec: Any) -> Resource:
    """A container a script, all at once, and nothing else."""
    containers = [
        {"name": f"c-{number}", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script]}
        for number, script in enumerate(scripts, start=1)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": containers,
            **spec,
        },
    }


async def until(api: KubeServer, namespace: str, name: str, look: Callable[[Resource], bool]) -> Resource:
    """The pod, once `look` is true of it."""
    last: Resource = {}
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            contextlib.aclosing(follow(api, Selection(POD, namespace), SystemClock())) as told,
        ):
            async for each in told:
                pods = each.items if isinstance(each, Listed) else [each.resource]
                for last in (pod for pod in pods if pod["metadata"]["name"] == name):
                    gone = isinstance(each, Change) and each.type == "DELETED"
                    assert not gone or look(last), f"the pod is gone: {last['status']}"
                    if look(last):
                        return last
    except TimeoutError:
        raise AssertionError(f"{name} after {PATIENCE_SECONDS} s: {last.get('status')}") from None
    raise AssertionError("following ended")


def is_over(pod: Resource) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")
