"""Clusters join and leave, tenants come and go, by the public API alone; and only operators do that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from overspill.hub_accounts import follow
from shared.adapters.accounts import Accounts
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import SEEDER
from shared.credential import Credential
from shared.errors import OverspillError, Rejected
from shared.flow import CLUSTERS, TENANTS, Beat, Edge
from shared.parties import machine_party
from shared.principal import Role
from shared.requests import WallsAsked, WallsStanding, WallsTold
from shared.tenancy import MAX_KEYS, ClusterRecord, TenantRecord, new_api_key
from shared.wire import decode, encode
from tests.integration.doors.hub import SPEC, Hub
from tests.integration.gateway.conftest import eventually
from tests.integration.scheduler.world import running

ABOUT = {"bus_urls": ["nats://bus.example.org:4222"], "pools": [{"pool": "nodes", "kind": "fixed"}]}


@pytest.fixture
async def operator(hub: Hub) -> AsyncIterator[str]:
    """Accounts follow records as in a hub."""
    seeder = await hub.connect(SEEDER)
    async with (
        Accounts.connect(hub.server.url, hub.server.identity) as accounts,
        running(follow(accounts, seeder)),
    ):
        yield await hub.new_tenant()


async def credential(hub: Hub, operator: str, cluster: str) -> Credential:
    answer = await eventually(
        lambda: hub.ask("POST", f"/v1/clusters/{cluster}/credential", operator), lambda a: a.status_code == 200
    )
    assert answer.headers["cache-control"] == "no-store"
    file = hub.directory / f"{cluster}.creds"
    file.write_text(answer.json()["credential"])
    return Credential.from_file(file)


async def opens(hub: Hub, told: Credential) -> bool:
    try:
        async with hub.server.connect(told):
            return True
    except OverspillError:
        return False


async def test_a_cluster_joins_changes_and_leaves_with_its_account(hub: Hub, operator: str) -> None:
    made = await hub.ask("PUT", "/v1/clusters/far", operator, json=ABOUT)
    assert (made.status_code, made.json()["bus_urls"]) == (201, ABOUT["bus_urls"])
    again = await hub.ask("PUT", "/v1/clusters/far", operator, json={"cordoned": True})
    assert (again.status_code, again.json()["cordoned"], again.json()["pools"][0]["pool"]) == (200, True, "nodes")
    told = await credential(hub, operator, "far")
    await eventually(lambda: opens(hub, told), lambda opened: opened)
    async with hub.server.connect(told) as controller:
        await controller.notify(Beat("far", "kube"), b"{}")
        assert (await hub.ask("DELETE", "/v1/clusters/far", operator)).status_code == 204
        async with asyncio.timeout(40):
            while controller.connected:
                await asyncio.sleep(0.02)
    await eventually(lambda: opens(hub, told), lambda opened: not opened)
    assert (await hub.ask("DELETE", "/v1/clusters/far", operator)).status_code == 404
    assert (await hub.ask("PUT", "/v1/clusters/far", operator, json=ABOUT)).status_code == 201
    fresh = await credential(hub, operator, "far")
    await eventually(lambda: opens(hub, fresh), lambda opened: opened)
    assert not await opens(hub, told)


async def test_a_cordoned_cluster_gets_nothing_more_and_is_not_removed_while_jobs_run_there(
    hub: Hub, operator: str
) -> None:
    assert hub.edge is not None
    hub.edge.script = lambda order: None
    running_job = await hub.submit(operator)
    await eventually(
        lambda: hub.ask("GET", f"/v1/jobs/{running_job}", operator), lambda a: a.json()["state"] == "placed"
    )
    async with seen_of(hub, "c1") as cordoned:
        refused = await hub.ask("DELETE", "/v1/clusters/c1", operator)
        assert (refused.status_code, refused.json()["code"]) == (409, "cluster_in_use")
        assert running_job in refused.json()["detail"]
        for expected in (False, True, False):  # it is closed before it is looked at, and put back
            assert await asyncio.wait_for(cordoned.get(), 40) is expected
    assert (await hub.ask("PUT", "/v1/clusters/c1", operator, json={"cordoned": True})).status_code == 200
    waiting = await hub.submit(operator)
    why = await eventually(
        lambda: hub.ask("GET", f"/v1/jobs/{waiting}", operator), lambda a: a.json()["waiting_for"] is not None
    )
    assert why.json()["waiting_for"] == "draining"
    (view,) = [
        each for each in (await hub.ask("GET", "/v1/clusters", operator)).json()["clusters"] if each["cluster"] == "c1"
    ]
    assert (view["state"], view["jobs"]) == ("draining", 1)
    assert (await hub.ask("DELETE", "/v1/clusters/c1?force=true", operator)).status_code == 204


async def test_a_cluster_that_was_cordoned_stays_so_when_its_removal_is_refused(hub: Hub, operator: str) -> None:
    assert hub.edge is not None
    hub.edge.script = lambda order: None
    job = await hub.submit(operator)
    await eventually(lambda: hub.ask("GET", f"/v1/jobs/{job}", operator), lambda a: a.json()["state"] == "placed")
    assert (await hub.ask("PUT", "/v1/clusters/c1", operator, json={"cordoned": True})).status_code == 200
    assert (await hub.ask("DELETE", "/v1/clusters/c1", operator)).status_code == 409
    entry = await hub.spy.bucket(CLUSTERS).get("c1")
    assert entry is not None
    assert decode(ClusterRecord, entry.value).cordoned


@asynccontextmanager
async def seen_of(hub: Hub, cluster: str) -> AsyncIterator["asyncio.Queue[bool]"]:
    """Whether its record says cordoned: now, and after every change."""
    seen: asyncio.Queue[bool] = asyncio.Queue()

    async def watch() -> None:
        async for entry in hub.spy.bucket(CLUSTERS).watch():
            if entry.key == cluster and not entry.deleted:
                seen.put_nowait(decode(ClusterRecord, entry.value).cordoned)

    async with running(watch()):
        await eventually(lambda: asyncio.sleep(0, seen.qsize()), bool)
        yield seen


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/clusters/new", {}, 422, "bus_urls"),
        ("/v1/clusters/new", {"bus_urls": ["http://x"]}, 422, "bus_urls"),
        ("/v1/clusters/new", {**ABOUT, "pool": []}, 422, "pool"),
        ("/v1/clusters/new", {**ABOUT, "pools": [{"pool": "p", "sort": "fixed"}]}, 422, "sort"),
        ("/v1/clusters/New", ABOUT, 422, "cluster"),
        ("/v1/tenants/acme", {"namespaces": ["kube-system"]}, 409, "kube-system"),
        ("/v1/tenants/acme", {"namespaces": ["default"]}, 409, "default"),
        ("/v1/tenants/acme", {"egress": [{"cidr": "10.0.0.0/99"}]}, 422, "egress"),
        ("/v1/tenants/acme", {"api_keys": []}, 422, "api_keys"),
    ],
)
async def test_what_can_t_be_is_refused_by_name(
    hub: Hub, operator: str, path: str, body: dict[str, object], status: int, words: str
) -> None:
    answer = await hub.ask("PUT", path, operator, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


async def test_only_operators_see_and_change_clusters_records_and_tenants(hub: Hub) -> None:
    for role in (Role.READER, Role.SUBMITTER, Role.ADMIN):
        tenant = await hub.new_tenant(role=role)
        for method, path in (
            ("PUT", "/v1/clusters/c1"),
            ("DELETE", "/v1/clusters/c1"),
            ("POST", "/v1/clusters/c1/credential"),
            ("GET", "/v1/tenants"),
            ("GET", f"/v1/tenants/{tenant}"),
            ("PUT", f"/v1/tenants/{tenant}"),
            ("DELETE", f"/v1/tenants/{tenant}"),
        ):
            assert (await hub.ask(method, path, tenant)).status_code == 403, (role, method, path)


async def walls(controller: NatsBus, *tenants: str, why: str = "") -> WallsTold:
    asked = WallsAsked(standing=[WallsStanding(tenant=each, stands=not why, why=why) for each in tenants])
    return decode(WallsTold, (await controller.request(Edge("c1", "kube", "walls"), encode(asked))).data)


async def test_a_tenant_comes_its_walls_are_told_and_it_goes(hub: Hub, operator: str) -> None:
    about = {"namespaces": ["acme-builds"], "egress": [{"cidr": "10.9.0.0/24"}], "pod_quota": {"pods": 5}}
    made = await hub.ask("PUT", "/v1/tenants/acme", operator, json=about)
    assert (made.status_code, made.json()["namespaces"]) == (201, ["overspill-acme", "acme-builds"])
    again = await hub.ask("PUT", "/v1/tenants/acme", operator, json={"pod_quota": {"cpu_millis": 4000}})
    assert (again.status_code, again.json()["pod_quota"]) == (
        200,
        {"cpu_millis": 4000, "memory_bytes": None, "pods": 5},
    )
    taken = await hub.ask("PUT", "/v1/tenants/other", operator, json={"namespaces": ["acme-builds"]})
    assert (taken.status_code, taken.json()["code"]) == (409, "namespace_taken")
    controller = await hub.connect(machine_party("c1", "kube"), cluster="c1")
    told = await eventually(lambda: walls(controller, "acme", "nobody", why="a hole"), lambda told: bool(told.keep))
    assert (told.keep[0].namespaces, told.keep[0].quota.pods, told.gone) == (["overspill-acme", "acme-builds"], 5, [])
    shown = (await hub.ask("GET", "/v1/tenants/acme", operator)).json()
    assert shown["walls"] == [{"cluster": "c1", "stands": False, "why": "a hole"}]
    other = await hub.connect(machine_party("c1", "m2"), cluster="c1")
    with pytest.raises(Rejected):
        await other.request(Edge("c1", "m2", "walls"), encode(WallsAsked(standing=[])))
    assert (await hub.ask("DELETE", "/v1/tenants/acme", operator)).status_code == 202
    await eventually(lambda: walls(controller, "acme"), lambda told: told.gone == ["acme"])
    closes = await hub.ask("PUT", "/v1/tenants/acme", operator, json={})
    assert (closes.status_code, closes.json()["code"]) == (409, "tenant_closes")
    hub.clock.ahead_seconds = 30 * 86_400
    await eventually(lambda: hub.spy.bucket(TENANTS).get("acme"), lambda found: found is None, 40)
    await eventually(lambda: walls(controller, "acme", "nobody"), lambda told: told.gone == ["acme"])


async def test_a_tenant_whose_jobs_run_is_deleted_by_force_only(hub: Hub, operator: str) -> None:
    assert hub.edge is not None
    hub.edge.script = lambda order: None
    tenant = await hub.new_tenant(role=Role.SUBMITTER)
    job = await hub.submit(tenant, SPEC)
    await eventually(lambda: hub.ask("GET", f"/v1/jobs/{job}", tenant), lambda a: a.json()["state"] == "placed")
    refused = await hub.ask("DELETE", f"/v1/tenants/{tenant}", operator)
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_in_use")
    assert (await hub.ask("DELETE", f"/v1/tenants/{tenant}?force=true", operator)).status_code == 202


async def test_a_cluster_that_serves_a_tenant_no_longer_is_told_to_take_its_walls_down(hub: Hub, operator: str) -> None:
    assert (await hub.ask("PUT", "/v1/tenants/acme", operator, json={})).status_code == 201
    controller = await hub.connect(machine_party("c1", "kube"), cluster="c1")
    await eventually(lambda: walls(controller, "acme"), lambda told: bool(told.keep))
    assert (await hub.ask("PUT", "/v1/clusters/c1", operator, json={"tenants": ["other"]})).status_code == 200
    told = await eventually(lambda: walls(controller, "acme", "nobody"), lambda told: not told.keep)
    assert told.gone == ["acme"]


async def test_a_key_made_by_the_api_opens_its_tenant_alone_until_it_is_revoked(hub: Hub, operator: str) -> None:
    assert (await hub.ask("PUT", "/v1/tenants/keyed", operator, json={})).status_code == 201
    asked = {"name": "ci", "role": "reader", "expires_seconds": 3600}
    made = await hub.ask("POST", "/v1/tenants/keyed/keys", operator, json=asked)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    token = made.json().pop("token")
    hub.tokens["keyed"] = token
    me = await eventually(lambda: hub.ask("GET", "/v1/me", "keyed"), lambda answer: answer.status_code == 200)
    assert (me.json()["tenant"], me.json()["subject"], me.json()["role"]) == ("keyed", "key:ci", "reader")
    assert (await hub.ask("POST", "/v1/jobs", "keyed", json=SPEC)).status_code == 403

    listed = await hub.ask("GET", "/v1/tenants/keyed/keys", operator)
    (shown,) = listed.json()["keys"]
    assert shown == {name: value for name, value in made.json().items() if name != "token"}
    stored = await hub.spy.bucket(TENANTS).get("keyed")
    assert stored is not None
    assert token.encode() not in stored.value
    assert token.rpartition("_")[2] not in listed.text

    assert (await hub.ask("DELETE", f"/v1/tenants/keyed/keys/{shown['id']}", operator)).status_code == 204
    await eventually(lambda: hub.ask("GET", "/v1/me", "keyed"), lambda answer: answer.status_code == 401)
    assert (await hub.ask("GET", "/v1/tenants/keyed/keys", operator)).json() == {"keys": []}
    assert (await hub.ask("DELETE", f"/v1/tenants/keyed/keys/{shown['id']}", operator)).status_code == 404


async def test_a_tenant_keeps_its_keys_when_its_record_is_changed(hub: Hub, operator: str) -> None:
    assert (await hub.ask("PUT", "/v1/tenants/kept", operator, json={})).status_code == 201
    made = (await hub.ask("POST", "/v1/tenants/kept/keys", operator, json={})).json()
    assert made["role"] == "submitter"
    assert (await hub.ask("PUT", "/v1/tenants/kept", operator, json={"weight": 2.0})).status_code == 200
    assert [key["id"] for key in (await hub.ask("GET", "/v1/tenants/kept/keys", operator)).json()["keys"]] == [
        made["id"]
    ]


async def test_keys_are_for_operators_of_tenants_that_are_and_within_their_bound(hub: Hub, operator: str) -> None:
    admin = await hub.new_tenant(role=Role.ADMIN)
    for method, path in (("POST", "keys"), ("GET", "keys"), ("DELETE", "keys/abc")):
        more = {"json": {}} if method == "POST" else {}
        assert (await hub.ask(method, f"/v1/tenants/{admin}/{path}", admin, **more)).status_code == 403
        assert (await hub.ask(method, f"/v1/tenants/nobody/{path}", operator, **more)).status_code == 404
    refused = await hub.ask("POST", f"/v1/tenants/{admin}/keys", operator, json={"role": "king"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    entry = await hub.spy.bucket(TENANTS).get(admin)
    assert entry is not None
    record = decode(TenantRecord, entry.value)
    many = [new_api_key("x", Role.READER, 0)[1] for _ in range(MAX_KEYS - len(record.api_keys))]
    full = record.model_copy(update={"api_keys": [*record.api_keys, *many]})
    await hub.spy.bucket(TENANTS).put(admin, encode(full))
    refused = await hub.ask("POST", f"/v1/tenants/{admin}/keys", operator, json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_keys")
    await hub.spy.bucket(TENANTS).put(admin, encode(full.model_copy(update={"closing_unix": 1})))
    refused = await hub.ask("POST", f"/v1/tenants/{admin}/keys", operator, json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_closes")
