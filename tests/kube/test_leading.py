"""Who leads, on a real API server; the clock is a test's, so nothing waits for a lease to lapse."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from runner.controller.leading import NAME, KubeLease, LeaseLost
from shared.adapters.kube_api import KubeServer
from shared.clock import Instant
from shared.kube import LEASE
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of, succeed
from tests.kube.kubelet import Kubelet

SECONDS = 0.2
"""So that looks follow each other soon; what lapses does so by the test's clock."""


@dataclass
class Hand:
    """A clock that moves when the test moves it."""

    at: float = 1000.0

    def now(self) -> Instant:
        return Instant(self.at)

    def monotonic(self) -> float:
        return self.at


def lease(kube: KubeServer, namespace: str, identity: str, clock: Hand) -> KubeLease:
    return KubeLease(kube, clock, namespace, identity, SECONDS)


async def test_one_leads_and_the_other_when_it_lets_go(kube: KubeServer, namespace: str) -> None:
    clock = Hand()
    one, two = lease(kube, namespace, "one", clock), lease(kube, namespace, "two", clock)
    await one.stand()
    assert one.holds()
    standing = asyncio.create_task(two.stand())
    await one.release()
    assert not one.holds()
    await asyncio.wait_for(standing, 60)
    assert two.holds()
    found = await kube.get(LEASE, NAME, namespace)
    assert (found["spec"]["holderIdentity"], found["spec"]["leaseTransitions"]) == ("two", 2)


async def test_a_lease_that_nobody_renews_lapses_by_the_clock_of_who_waits(kube: KubeServer, namespace: str) -> None:
    its_clock, ours = Hand(), Hand(at=5.0)
    await lease(kube, namespace, "one", its_clock).stand()
    two = lease(kube, namespace, "two", ours)
    standing = asyncio.create_task(two.stand())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(standing), 4 * SECONDS)
    ours.at += 1.0  # the lease says whole seconds
    await asyncio.wait_for(standing, 60)


async def test_who_was_started_again_under_its_name_leads_at_once(kube: KubeServer, namespace: str) -> None:
    await lease(kube, namespace, "one", Hand()).stand()
    again = lease(kube, namespace, "one", Hand())
    await asyncio.wait_for(again.stand(), 60)
    assert again.holds()


async def test_who_slept_past_its_lease_begins_nothing_more(kube: KubeServer, namespace: str) -> None:
    clock = Hand()
    one = lease(kube, namespace, "one", clock)
    await one.stand()
    clock.at += SECONDS
    assert not one.holds()
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(one.keep(), 60)


async def test_a_lease_that_is_another_s_is_not_taken_back(kube: KubeServer, namespace: str) -> None:
    clock = Hand()
    one = lease(kube, namespace, "one", clock)
    await one.stand()
    found = await kube.get(LEASE, NAME, namespace)
    await kube.replace(LEASE, {**found, "spec": {**found["spec"], "holderIdentity": "two"}})
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(one.keep(), 60)
    assert not one.holds()


async def test_of_many_that_stand_at_once_one_leads(kube: KubeServer, namespace: str) -> None:
    clock = Hand()
    all_of_them = [lease(kube, namespace, f"i{number}", clock) for number in range(8)]
    standing = [asyncio.create_task(each.stand()) for each in all_of_them]
    await asyncio.wait(standing, return_when=asyncio.FIRST_COMPLETED)
    assert sum(each.holds() for each in all_of_them) == 1
    for task in standing:
        task.cancel()
    await asyncio.gather(*standing, return_exceptions=True)


async def test_controllers_whose_clocks_differ_by_minutes_agree_on_who_leads_and_on_what_becomes_of_a_pod(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    ahead = controllers("ahead", skew_seconds=600.0)
    order = await hub.order({"name": "build", "steps": [{"run": "make"}]}, "kube")
    name = name_of(order)
    await kubelet.run(name)
    controllers("behind", skew_seconds=-600.0)
    ahead.signal(signal.SIGKILL)
    late = await hub.order({"name": "build", "steps": [{"run": "make"}]}, "kube")  # only who leads now makes its pod
    await kubelet.run(name_of(late))
    for each in (order, late):
        assert (await kubelet.pod(name_of(each)))["metadata"].get("deletionTimestamp") is None
        await succeed(hub, each)
        await kubelet.end(name_of(each))
        await kubelet.until_gone(name_of(each))
        assert await hub.kinds(each.job) == ["attempt-accepted", "attempt-ended"]
