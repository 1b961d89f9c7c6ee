"""One hub and two clusters, each with an API server and a controller of its own: what befalls one is not the
other's.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.scheduler.settings import Settings
from shared.adapters.kube_api import KubeServer
from shared.lifecycle import JobState, Reason
from tests.conftest import BusServer
from tests.integration.scheduler.world import World
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess
from tests.kube.kubelet import Kubelet
from tests.kube.test_placement import NAMESPACE_OF_T1, hub, join, submit, succeed

EAST, WEST = "east", "west"
LEASES = "leases"
CPUS = 8


@dataclass
class Site:
    plane: ControlPlane
    controller: ControllerProcess
    kubelet: Kubelet

    def lose(self) -> None:
        """All of it at once."""
        self.controller.signal(signal.SIGKILL)
        self.plane.kill("kube-apiserver")
        self.plane.kill("etcd")

    def signal(self, number: signal.Signals) -> None:
        """Without waiting for an end."""
        assert self.controller.process is not None
        self.controller.process.send_signal(number)

    async def started(self, job: str, epoch: int = 1) -> None:
        """Its pod was made here, and runs."""
        await self.kubelet.run(f"{job}-{epoch}")


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[dict[str, ControlPlane]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(control_plane.running(tmp_path / name / "plane")) for name in (EAST, WEST)}


@pytest.fixture
async def w(planes: dict[str, ControlPlane], fresh_bus_server: BusServer) -> AsyncIterator[World]:
    """Only once the API servers are there, whose start blocks the loop."""
    assert planes
    for name in (EAST, WEST):
        await fresh_bus_server.cluster(name)
    settings = Settings(retry_seconds=0.1, explain_after_seconds=0.1)
    async with hub(fresh_bus_server, settings, EAST, WEST) as made:
        yield made


@pytest.fixture
async def sites(w: World, planes: dict[str, ControlPlane], tmp_path: Path) -> AsyncIterator[dict[str, Site]]:
    """Their controllers are still to be started; none has a node yet, and no pool but of nodes."""
    async with AsyncExitStack() as stack:
        made = {}
        for name, plane in planes.items():
            plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": LEASES}})
            api = await stack.enter_async_context(KubeServer.connect(plane.kubeconfig))
            controller = ControllerProcess(
                w.server,
                plane.kubeconfig,
                LEASES,
                tmp_path / name,
                environment={"BEAT_SECONDS": "1", "SILENCE_SECONDS": "600"},
                cluster=name,
            )
            made[name] = Site(plane, controller, Kubelet(api, NAMESPACE_OF_T1, node="n1"))
        yield made
        for site in made.values():
            if site.controller.process is not None:
                site.controller.signal(signal.SIGKILL)


async def cluster_of(w: World, job: str, epoch: int = 1) -> str:
    record = await w.until(job, lambda record: record.state is JobState.PLACED and record.epoch == epoch)
    assert record.placement is not None
    return record.placement.cluster


async def test_jobs_run_where_they_ask_to_and_a_lost_cluster_takes_only_its_own_along(
    w: World, sites: dict[str, Site]
) -> None:
    east, west = sites[EAST], sites[WEST]
    for site in sites.values():
        site.controller.environment["SILENCE_SECONDS"] = "10"
        site.controller.start()
    await join(east.kubelet, "n1", CPUS, pool="fixed")
    anywhere = await submit(w, runs_on=["fixed"])
    await east.started(anywhere)  # there is no node in the west yet
    await join(west.kubelet, "n1", CPUS, pool="fixed")
    eastern, western = await submit(w, runs_on=["fixed", EAST]), await submit(w, runs_on=["fixed", WEST])
    once = await submit(w, runs_on=["fixed", EAST], on_lost="fail")
    for job, site in ((eastern, east), (western, west), (once, east)):
        await site.started(job)
    assert [await cluster_of(w, job) for job in (anywhere, eastern, western, once)] == [EAST, EAST, WEST, EAST]

    await asyncio.to_thread(east.lose)

    ended = await w.ended(once)
    assert (ended.state, ended.reason, ended.message) == (
        JobState.ERROR,
        Reason.MACHINE_LOST,
        "cluster east is lost",
    )
    await west.started(anywhere, epoch=2)
    again = await w.until(anywhere, lambda record: record.epoch == 2)
    assert [(past.cluster, past.reason) for past in again.past_attempts] == [(EAST, Reason.MACHINE_LOST)]
    waits = await w.until(eastern, lambda record: record.waiting_for is not None)
    assert (waits.state, waits.waiting_for) == (JobState.QUEUED, "lost")

    await succeed(w, west.kubelet, western)
    done = await w.ended(western)
    assert (done.state, done.epoch, done.past_attempts) == (JobState.SUCCEEDED, 1, [])
    after = await submit(w, runs_on=["fixed"])
    await west.started(after)


async def test_a_silent_cluster_gets_nothing_new_keeps_what_it_runs_and_is_used_again_when_it_is_heard(
    w: World, sites: dict[str, Site]
) -> None:
    east, west = sites[EAST], sites[WEST]
    for site in sites.values():
        await join(site.kubelet, "n1", CPUS, pool="fixed")
        site.controller.start()
    there = await submit(w, cpus=6, runs_on=["fixed", EAST])
    await east.started(there)
    pinned = await submit(w, cpus=4, runs_on=["fixed", EAST])
    await w.until(pinned, lambda record: record.waiting_for == "busy")

    east.signal(signal.SIGSTOP)

    await w.until(pinned, lambda record: record.waiting_for == "suspect")
    small = [await submit(w, cpus=1, runs_on=["fixed"]) for _ in range(3)]
    for job in small:
        await west.started(job)
        assert await cluster_of(w, job) == WEST
    east.signal(signal.SIGCONT)
    await succeed(w, east.kubelet, there)
    done = await w.ended(there)
    assert (done.state, done.epoch) == (JobState.SUCCEEDED, 1)
    await east.started(pinned)
    assert (await cluster_of(w, pinned), (await w.ended(there)).past_attempts) == (EAST, [])
