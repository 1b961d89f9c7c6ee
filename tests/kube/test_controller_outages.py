"""An API server that is away for a while loses nothing. It is a test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.facts import Desired
from tests.integration.runner.hub import Hub
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of, succeed
from tests.kube.kubelet import Kubelet

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
