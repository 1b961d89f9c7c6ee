"""An API server that is away for a while, or answers in a storm, and an absent bus lose nothing."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.facts import Desired
from shared.kube import POD
from shared.lifecycle import Reason
from tests.conftest import BusServer
from tests.integration.runner.hub import Hub
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of, succeed
from tests.kube.kubelet import Kubelet
from tests.kube.storm import Storm

SPEC = {"name": "build", "steps": [{"run": "make"}]}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane.running(tmp_path / "plane") as plane:
        yield plane


async def test_what_is_ordered_and_what_ends_while_the_api_server_is_away_is_done_when_it_is_back(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet, plane: ControlPlane
) -> None:
    running = await hub.order(SPEC, "kube")
    await kubelet.run(name_of(running))
    plane.kill("kube-apiserver")
    waiting, unwanted = await hub.order(SPEC, "kube"), await hub.order(SPEC, "kube")
    await hub.change(unwanted, desired=Desired.CANCEL)
    await succeed(hub, running)
    plane.restart("kube-apiserver")
    plane.until_ready()
    await kubelet.end(name_of(running))
    await kubelet.until_gone(name_of(running))
    await kubelet.run(name_of(waiting))
    await succeed(hub, waiting)
    await kubelet.end(name_of(waiting))
    await kubelet.until_gone(name_of(waiting))
    assert (await hub.ended(running)).outcome == "succeeded"
    assert (await hub.ended(waiting)).outcome == "succeeded"
    assert (await hub.ended(unwanted)).outcome == "cancelled"


async def test_a_storm_of_refusals_and_cut_connections_loses_and_doubles_nothing(
    fresh_bus_server: BusServer, hub: Hub, kubelet: Kubelet, plane: ControlPlane, tmp_path: Path
) -> None:
    plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": "lease"}})
    async with Storm.before(plane, seed=7) as storm:
        file = tmp_path / "storm.kubeconfig"
        file.write_text(storm.kubeconfig())
        controller = ControllerProcess(fresh_bus_server, file, "lease", tmp_path / "one")
        storm.share = 0.25
        controller.start()
        try:
            orders = [await hub.order(SPEC, "kube") for _ in range(12)]
            for order in orders:
                await kubelet.run(name_of(order))
            for order in orders[:8]:
                await succeed(hub, order)
                await kubelet.end(name_of(order))
            for order in orders[8:]:
                await kubelet.api.delete(POD, name_of(order), kubelet.namespace, grace_seconds=0)
            for order in orders:
                await kubelet.until_gone(name_of(order))
            assert {(await hub.ended(order)).outcome for order in orders[:8]} == {"succeeded"}
            assert {(await hub.ended(order)).reason for order in orders[8:]} == {Reason.RUNNER_LOST}
            for order in orders:
                assert await hub.kinds(order.job) == ["attempt-accepted", "attempt-ended"]
            assert sum(storm.hits.values()) > len(orders)
        finally:
            await asyncio.to_thread(controller.signal, signal.SIGKILL)


async def test_an_absent_bus_loses_nothing(
    fresh_bus_server: BusServer, hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    gone, over = await hub.order(SPEC, "kube"), await hub.order(SPEC, "kube")
    for order in (gone, over):
        await kubelet.run(name_of(order))
    await succeed(hub, over)
    fresh_bus_server.kill()
    await kubelet.api.delete(POD, name_of(gone), kubelet.namespace, grace_seconds=0)
    await kubelet.end(name_of(over))
    await asyncio.to_thread(fresh_bus_server.start)
    for order in (gone, over):
        await kubelet.until_gone(name_of(order))
    assert (await hub.ended(gone)).reason is Reason.RUNNER_LOST
    assert (await hub.ended(over)).outcome == "succeeded"
