"""Who gets an attempt's spec and credential: the machine its job is placed on, nobody else."""

from typing import Any

import pytest

from shared.adapters.nats_bus import NatsBus
from shared.bus import Message
from shared.credential import Credential
from shared.errors import OverspillError
from shared.flow import Edge, Evt
from shared.parties import machine_party
from shared.requests import Grant, GrantAsked
from shared.wire import decode, encode
from tests.integration.gateway.conftest import Gateway

PLACED = {
    "state": "placed",
    "epoch": 1,
    "placement": {"cluster": "c1", "pool": "local", "target": "m1"},
    "placed_unix_ns": 1,
}


async def ask(machine: NatsBus, name: str, tenant: str, job: str, epoch: int = 1) -> Message:
    asked = GrantAsked(tenant=tenant, job=job, epoch=epoch)
    return await machine.request(Edge("c1", name, "grant"), encode(asked))


async def machine_of(hub_bus: Any, name: str = "m1") -> NatsBus:
    bus: NatsBus = await hub_bus(machine_party("c1", name), cluster="c1")
    return bus


async def test_the_placed_machine_gets_spec_and_a_credential_of_just_this_attempt(
    gateway: Gateway, hub_bus: Any, bus_server: Any
) -> None:
    job = await gateway.submit()
    await gateway.move(job, **PLACED)
    reply = await ask(await machine_of(hub_bus), "m1", gateway.tenant, job)
    grant = decode(Grant, reply.data)
    assert grant.spec.name == "hello"
    credential = Credential(grant.bus_jwt, grant.bus_seed, f"attempt-{job}-1")
    async with bus_server.connect(credential) as runner:
        assert (await runner.publish(Evt(gateway.tenant, job, 1, "step-started"), b"{}")).seq > 0
        with pytest.raises(OverspillError):
            await runner.publish(Evt(gateway.tenant, job, 2, "step-started"), b"{}", timeout_seconds=0.5)


@pytest.mark.parametrize(
    ("changes", "machine", "epoch"),
    [
        (PLACED, "m2", 1),
        (PLACED, "m1", 2),
        ({}, "m1", 0),
        ({"state": "cancelled", "epoch": 1, "placement": PLACED["placement"]}, "m1", 1),
        ({**PLACED, "placement": {"cluster": "c2", "pool": "local", "target": "m1"}}, "m1", 1),
    ],
)
async def test_whoever_is_not_placed_learns_nothing(
    gateway: Gateway, hub_bus: Any, changes: dict[str, Any], machine: str, epoch: int
) -> None:
    job = await gateway.submit()
    await gateway.move(job, **changes)
    bus = await machine_of(hub_bus, machine)
    with pytest.raises(OverspillError) as refused:
        await ask(bus, machine, gateway.tenant, job, epoch)
    with pytest.raises(OverspillError) as unknown:
        await ask(bus, machine, gateway.tenant, "nosuchjob", epoch)
    assert refused.value.code == unknown.value.code == "not_placed_here"


async def test_a_machine_cannot_ask_in_the_name_of_another(gateway: Gateway, hub_bus: Any) -> None:
    job = await gateway.submit()
    await gateway.move(job, **PLACED)
    other = await machine_of(hub_bus, "m2")
    asked = GrantAsked(tenant=gateway.tenant, job=job, epoch=1)
    with pytest.raises(OverspillError):
        await other.request(Edge("c1", "m1", "grant"), encode(asked), timeout_seconds=0.5)


async def test_garbage_is_refused_and_the_next_is_answered(gateway: Gateway, hub_bus: Any) -> None:
    bus = await machine_of(hub_bus)
    for data in (b"", b"{", b"[]", b'{"tenant": "A.>"}', b'{"tenant":"t","job":"j","epoch":-1}'):
        with pytest.raises(OverspillError):
            await bus.request(Edge("c1", "m1", "grant"), data)
    job = await gateway.submit()
    await gateway.move(job, **PLACED)
    assert decode(Grant, (await ask(bus, "m1", gateway.tenant, job)).data).job == job
