"""An edge of each kept version at the real hub: it says only what was recorded of that version and reads answers by
the forms which that version had.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from overspill.hub import Settings, serve
from overspill.hub_seed import CLUSTER, POOL, prepare
from services.gateway.wiring import listening_socket
from shared.adapters.nats_bus import NatsBus
from shared.credential import Credential
from shared.facts import Order
from shared.flow import Beat, Edge, Evt, LogTo
from shared.parties import attempt_party, machine_party
from shared.requests import DurableTold, Grant, OrdersTold
from shared.settings import ObjectSettings
from tests.conftest import BusServer
from tests.protocol.compat import complaints
from tests.protocol.kept import VERSIONS, frozen, recorded

PATIENCE_SECONDS = 60
MACHINE = "old"
TOKEN = "osp_0123456789ab_" + "s" * 43
JOB = {
    "name": "recorded",
    "steps": [
        {"name": "db", "background": True, "run": "sleep 1000", "ready": "true"},
        {"name": "greet", "run": "echo hello"},
        {"name": "sum", "run": "true"},
    ],
}


@dataclass
class Hub:
    server: BusServer
    http: httpx.AsyncClient

    async def submit(self) -> str:
        answer = await self.http.post("/v1/jobs", json=JOB)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def until(self, path: str, holds: Any) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(told := (await self.http.get(path)).json()):
                await asyncio.sleep(0.05)
        return told


@pytest.fixture
async def hub(
    fresh_bus_server: BusServer, object_store: ObjectSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hub]:
    """The whole hub on real servers."""
    for name, value in object_store.model_dump(exclude_none=True).items():
        monkeypatch.setenv(f"OVERSPILL_S3_{name.upper()}", str(value))
    server = fresh_bus_server
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    await prepare(server.url, server.identity, TOKEN)
    door = listening_socket("127.0.0.1", 0)
    settings = Settings(
        nats_url=server.url, identity=server.identity.directory, data=tmp_path / "hub", token_file=token_file
    )
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, server.identity, door, told.set_result))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
        assert told.done(), serving
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=told.result(), headers=headers, timeout=20) as http:
            yield Hub(server, http)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@dataclass
class OldEdge:
    """Speaks from the recording alone: a sentence of it, with the names of today's job in it."""

    version: str
    bus: NatsBus
    server: BusServer

    def said(self, first: str, last: str = "") -> list[dict[str, Any]]:
        words = [message for message in recorded(self.version) if message["by"] == "edge"]
        found = [m for m in words if m["subject"].startswith(first) and m["subject"].endswith(last)]
        assert found, (first, last)
        return found

    def read(self, model: Any, data: bytes) -> Any:
        told = json.loads(data)
        assert list(complaints(frozen(self.version, model)["reads"], told)) == []
        return told

    async def beat(self, protocol: int | None = None) -> None:
        beat = json.loads(self.said("hb.")[0]["data"])
        beat |= {"cluster": CLUSTER, "machine": MACHINE, "pool": POOL}
        beat |= {} if protocol is None else {"protocol": protocol}
        while True:
            await self.bus.notify(Beat(CLUSTER, MACHINE), json.dumps(beat).encode())
            await asyncio.sleep(1)

    async def order(self, job: str) -> dict[str, Any]:
        asked = self.said("edge.", ".orders")[0]["data"].encode()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self.bus.request(Edge(CLUSTER, MACHINE, "orders"), asked)
                told = self.read(OrdersTold, answer.data)
                for order in told["orders"]:
                    if order["job"] == job:
                        assert list(complaints(frozen(self.version, Order)["reads"], order)) == []
                        found: dict[str, Any] = order
                        return found
                await asyncio.sleep(0.05)

    async def run(self, order: dict[str, Any]) -> None:
        names = {name: order[name] for name in ("tenant", "job", "epoch")}
        await self.tell(self.bus, self.said("evt.", ".attempt-accepted")[0], names)
        asked = json.dumps(json.loads(self.said("edge.", ".grant")[0]["data"]) | names).encode()
        grant = self.read(Grant, (await self.bus.request(Edge(CLUSTER, MACHINE, "grant"), asked)).data)
        party = attempt_party(names["tenant"], names["job"], names["epoch"])
        credential = Credential(grant["bus_jwt"], grant["bus_seed"], party.name)
        async with NatsBus.connect(grant["bus_urls"][0], credential, name="old") as attempt:
            await self.run_attempt(attempt, names)

    async def run_attempt(self, attempt: NatsBus, names: dict[str, Any]) -> None:
        whole = self.said("evt.", ".attempt-ended")[0]["subject"].split(".")[2]
        for message in self.said("evt.") + self.said("log."):
            if message["subject"].split(".")[2] != whole or message["subject"].endswith(("-accepted", "-stored")):
                continue
            if message["subject"].startswith("log."):
                step = int(message["subject"].rsplit(".", 1)[1])
                to = LogTo(names["tenant"], names["job"], names["epoch"], step)
                await attempt.publish(to, message["data"].encode(), headers=_headers(message))
            else:
                await self.tell(attempt, message, names)
        steps = [int(message["subject"].rsplit(".", 1)[1]) for message in self.said("log.")]
        asked = json.dumps({"steps": steps, "flush": True}).encode()
        ask = f"ask.{names['tenant']}.{names['job']}.{names['epoch']}.durable"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while set(steps) - set(self.read(DurableTold, (await attempt.request(ask, asked)).data)["complete"]):
                await asyncio.sleep(0.05)

    async def tell(self, bus: NatsBus, message: dict[str, Any], names: dict[str, Any]) -> None:
        told = json.loads(message["data"]) | names | {"at_unix_ns": time.time_ns()}
        told |= {name: here for name, here in (("cluster", CLUSTER), ("machine", MACHINE)) if name in told}
        first = 0 if "Nats-Expected-Last-Subject-Sequence" in message["headers"] else None
        to = Evt(names["tenant"], names["job"], names["epoch"], message["subject"].rsplit(".", 1)[1])
        await bus.publish(to, json.dumps(told).encode(), headers=_headers(message), expect_seq=first)


def _headers(message: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in message["headers"].items() if name.startswith(("ce-", "Overspill-"))}


@contextlib.asynccontextmanager
async def edge(hub: Hub, version: str, protocol: int | None = None) -> AsyncIterator[OldEdge]:
    credential = hub.server.identity.credential(machine_party(CLUSTER, MACHINE), cluster=CLUSTER)
    async with hub.server.connect(credential) as bus:
        old = OldEdge(version, bus, hub.server)
        beating = asyncio.create_task(old.beat(protocol))
        try:
            yield old
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_edge_of_a_kept_version_runs_a_job_at_the_hub_of_today(hub: Hub, version: str) -> None:
    async with edge(hub, version) as old:
        job = await hub.submit()
        await old.run(await old.order(job))
        told = await hub.until(f"/v1/jobs/{job}", lambda view: view["state"] == "succeeded" and len(view["steps"]) == 3)
    assert told["exit_code"] == 0
    assert [step["state"] for step in told["steps"]] == ["ended", "exited", "exited"]
    log = await hub.http.get(f"/v1/jobs/{job}/logs", params={"step": 2})
    assert log.text == "hello\n"


@pytest.mark.parametrize(("protocol", "remedy"), [(0, "update its agent"), (99, "update the hub")])
async def test_an_edge_whose_protocol_the_hub_does_not_serve_gets_no_orders_and_why_names_the_remedy(
    hub: Hub, protocol: int, remedy: str
) -> None:
    async with edge(hub, VERSIONS[0], protocol) as old:

        def noted(view: Any) -> bool:
            return any(machine["note"] for cluster in view["clusters"] for machine in cluster["machines"])

        seen = await hub.until("/v1/clusters", noted)
        assert remedy in seen["clusters"][0]["machines"][0]["note"]
        job = await hub.submit()
        why = await hub.until(f"/v1/jobs/{job}/why", lambda told: told.get("code") == "old_protocol")
        assert remedy in why["candidates"][f"{CLUSTER}/{MACHINE}"]
        answer = await old.bus.request(Edge(CLUSTER, MACHINE, "orders"), b"{}")
        assert old.read(OrdersTold, answer.data)["orders"] == []
        assert (await hub.http.get(f"/v1/jobs/{job}")).json()["state"] == "queued"
    assert json.loads(old.said("hb.")[0]["data"])["protocol"] == int(VERSIONS[0].removeprefix("v"))
