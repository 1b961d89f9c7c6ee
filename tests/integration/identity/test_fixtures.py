"""The servers every other test leans on."""

from shared.adapters.s3_objects import S3Objects
from shared.flow import Submit
from shared.parties import GATEWAY, service_party


async def test_the_object_store_gives_back_what_it_was_given(object_store) -> None:
    async with S3Objects.connect(object_store) as objects:
        body = b"0123456789" * 100_000
        await objects.put("fixtures/a", body)
        assert await objects.get("fixtures/a") == body


async def test_a_tenant_can_join_while_the_bus_runs(bus_server, hub_bus) -> None:
    tenant = await bus_server.tenant()
    service = await hub_bus(service_party(tenant), tenant=tenant)
    assert (await service.publish(Submit(tenant), b"{}")).seq > 0
    gateway = await hub_bus(GATEWAY)
    assert gateway.connected


async def test_a_restarted_bus_keeps_its_address_and_knows_the_tenants_that_joined(fresh_bus_server) -> None:
    tenant = await fresh_bus_server.tenant()
    url = fresh_bus_server.url
    fresh_bus_server.restart()
    assert fresh_bus_server.url == url
    async with fresh_bus_server.connect(
        fresh_bus_server.identity.credential(service_party(tenant), tenant=tenant)
    ) as bus:
        assert (await bus.publish(Submit(tenant), b"{}")).seq == 1
