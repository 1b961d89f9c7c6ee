"""Wherever a controller dies or is told to stop, and whatever the API server fails at: no attempt's secret stays."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from shared.facts import Desired
from shared.kube import POD, SECRET
from tests.conftest import BusServer
from tests.integration.runner.hub import Hub
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of, succeed
from tests.kube.kubelet import Kubelet
from tests.kube.storm import Storm

SPEC = {"name": "build", "steps": [{"run": "make"}]}


async def died(controller: ControllerProcess) -> None:
    assert controller.process is not None
    await asyncio.to_thread(controller.process.wait, 60)
    controller.process = None


async def test_a_cancel_between_secret_and_pod_leaves_no_secret_though_the_api_server_fails(
    fresh_bus_server: BusServer, hub: Hub, kubelet: Kubelet, api_server: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with Storm.before(api_server, seed=1) as storm:
        storm.fails = lambda request: request.method == "POST" and request.path.endswith("/pods")
        file = tmp_path / "storm.kubeconfig"
        file.write_text(storm.kubeconfig())
        controller = ControllerProcess(fresh_bus_server, file, namespace, tmp_path / "one").start()
        try:
            order = await hub.order(SPEC, "kube")
            await kubelet.until_there(SECRET, name_of(order))
            storm.fails = lambda request: request.path.endswith(("/pods", name_of(order)))
            await hub.change(order, desired=Desired.CANCEL)
            assert (await hub.ended(order)).outcome == "cancelled"
            storm.fails = lambda _: False
            await kubelet.until_none(SECRET)
            assert not (await kubelet.api.list(POD, kubelet.namespace)).items
        finally:
            await asyncio.to_thread(controller.signal, signal.SIGKILL)


async def test_a_cancel_of_what_a_dead_controller_had_half_made_leaves_no_secret(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    dying = controllers("one", dies_at="controller.after-secret-before-pod")
    order = await hub.order(SPEC, "kube")
    await died(dying)
    await kubelet.until_there(SECRET, name_of(order))
    await hub.change(order, desired=Desired.CANCEL)
    controllers("two")
    assert (await hub.ended(order)).outcome == "cancelled"
    await kubelet.until_none(SECRET)


async def test_a_controller_that_dies_half_way_through_reaping_is_followed_by_one_that_ends_it(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    dying = controllers("one", dies_at="controller.after-secret-before-finalizer")
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await succeed(hub, order)
    await kubelet.end(name)
    await died(dying)
    await kubelet.until_none(SECRET)
    assert (await kubelet.pod(name))["metadata"]["finalizers"]
    controllers("two")
    await kubelet.until_gone(name)
    assert await hub.kinds(order.job) == ["attempt-accepted", "attempt-ended"]
