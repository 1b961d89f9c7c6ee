"""Accounts follow the records of tenants and clusters."""

import asyncio

from overspill.hub_accounts import follow
from overspill.hub_seed import KEY_NAME, prepare
from shared.adapters.accounts import Accounts
from shared.adapters.nats_permissions import SEEDER
from shared.errors import OverspillError
from shared.flow import CLUSTERS, TENANTS, Evt, Submit
from shared.ids import random_id
from shared.parties import machine_party, service_party
from shared.principal import Role
from shared.tenancy import ClusterRecord, TenantRecord, new_api_key
from shared.wire import decode, encode

WAIT_SECONDS = 20


async def eventually(works) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await works():
            await asyncio.sleep(0.02)


async def test_a_tenant_and_a_cluster_can_speak_once_their_records_are_there(bus_server, hub_bus) -> None:
    identity = bus_server.identity
    tenant, cluster = f"t-{random_id()[:8]}", f"c-{random_id()[:8]}"
    seeder = await hub_bus(SEEDER)
    async with Accounts.connect(bus_server.url, identity) as accounts:
        following = asyncio.create_task(follow(accounts, seeder))
        await seeder.bucket(CLUSTERS).put("unreadable", b"{}")  # must not hold up the others
        await seeder.bucket(TENANTS).put(tenant, encode(TenantRecord(tenant=tenant)))
        record = ClusterRecord(cluster=cluster, bus_urls=[bus_server.url], tenants=[tenant])
        await seeder.bucket(CLUSTERS).put(cluster, encode(record))

        async def known() -> bool:
            try:
                for credential in (
                    identity.credential(service_party(tenant), tenant=tenant),
                    identity.credential(machine_party(cluster, "m"), cluster=cluster),
                ):
                    async with bus_server.connect(credential):
                        pass
            except OverspillError:
                return False  # not made yet, or not yet told to the server
            return True

        await eventually(known)
        service = await hub_bus(service_party(tenant), tenant=tenant)
        assert (await service.publish(Submit(tenant), b"{}")).seq
        machine = await hub_bus(machine_party(cluster, "m"), cluster=cluster)
        assert (await machine.publish(Evt(tenant, "j", 1, "attempt-accepted"), b"{}")).seq
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_preparing_twice_changes_nothing_and_a_new_token_replaces_the_old_one(fresh_bus_server) -> None:
    server = fresh_bus_server
    first, _ = new_api_key("x", Role.OPERATOR, 0)
    second, _ = new_api_key("x", Role.OPERATOR, 0)
    async with server.connect(server.identity.credential(SEEDER)) as bus:
        await prepare(server.url, server.identity, first)
        revision = (await bus.bucket(TENANTS).get("default")).revision
        await prepare(server.url, server.identity, first)
        assert (await bus.bucket(TENANTS).get("default")).revision == revision

        entry = await bus.bucket(TENANTS).get("default")
        kept = decode(TenantRecord, entry.value).model_copy(update={"display_name": "kept", "weight": 3.0})
        await bus.bucket(TENANTS).update("default", encode(kept), entry.revision)
        await prepare(server.url, server.identity, second)
        record = decode(TenantRecord, (await bus.bucket(TENANTS).get("default")).value)
        assert (record.display_name, record.weight) == ("kept", 3.0)
        assert [key.name for key in record.api_keys] == [KEY_NAME]
        assert record.api_keys[0].opens_with(second)
        assert not record.api_keys[0].opens_with(first)
