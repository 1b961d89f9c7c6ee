"""Those who submit, cancel and read. They ask again until they have an answer, as every client must."""

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

import httpx
import orjson

from overspill.hub_seed import TENANT
from shared.adapters.nats_bus import NatsBus
from shared.bus import CE_TYPE
from shared.errors import OverspillError
from shared.facts import AttemptAccepted, JobSubmitted
from shared.flow import EVT, Evt, Submit
from shared.ids import job_id_from_event, job_id_from_key
from tests.chaos.jobs import TREE_CONTENT, TREE_FILE, JobPlan

PATIENCE_SECONDS = 180.0
PAUSE_SECONDS = 0.2
SOURCE = "/chaos"
Answer = Callable[[], Awaitable[httpx.Response]]


class Refused(AssertionError):
    """The platform refused what it must take."""


@dataclass
class Customer:
    """One tenant's hand at both doors."""

    client: httpx.AsyncClient
    service: NatsBus
    watcher: NatsBus

    def id_of(self, job: JobPlan, run: str) -> str:
        name = f"{run}-{job.name}"
        return job_id_from_key(TENANT, name) if job.door == "http" else job_id_from_event(TENANT, SOURCE, name)

    async def submit(self, job: JobPlan, run: str) -> str:
        """Returns once the platform said that it has the job."""
        spec = dict(job.spec)
        if job.wants_tree:
            spec["source"] = {"tree": await self._upload(run)}
        if job.door == "http":
            headers = {"Idempotency-Key": f"{run}-{job.name}"}
            answer = await self.ask(lambda: self.client.post("/v1/jobs", json=spec, headers=headers))
            assert answer.json()["id"] == self.id_of(job, run)
        else:
            await self._publish(spec, f"{run}-{job.name}")
        return self.id_of(job, run)

    async def _publish(self, spec: dict[str, object], event: str) -> None:
        headers = {"ce-specversion": "1.0", "ce-id": event, "ce-source": SOURCE, CE_TYPE: JobSubmitted.event_type()}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    # No message id: that an event told twice is one job is the gateway's promise.
                    await self.service.publish(Submit(TENANT), orjson.dumps({"spec": spec}), headers=headers)
                except OverspillError:
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    return

    async def _upload(self, run: str) -> str:
        """A tree of this run's own, so that it is not there yet."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for name, content in ((TREE_FILE, TREE_CONTENT), ("run.txt", run.encode())):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
        packed = data.getvalue()
        digest = sha256(packed).hexdigest()
        asked = {"sha256": digest, "size_bytes": len(packed)}
        told = (await self.ask(lambda: self.client.post("/v1/sources", json=asked))).json()
        if not told["exists"]:
            put = told["put"]
            async with httpx.AsyncClient(trust_env=False) as plain:
                await self.ask(lambda: plain.put(put["url"], content=packed, headers=put.get("headers", {})))
        return digest

    async def cancel(self, job: JobPlan, id_: str) -> None:
        if job.cancel == "when it runs":
            await self._accepted(id_)
        await self.ask(lambda: self.client.post(f"/v1/jobs/{id_}/cancel"))

    async def _accepted(self, id_: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            filters = Evt.filter(tenant=TENANT, job=id_, kind=AttemptAccepted.token())
            async for _ in self.watcher.tail(EVT, filters, from_seq=1):
                return

    async def ask(self, call: Answer) -> httpx.Response:
        """The answer, once there is one. Raises Refused when it says that asking again is of no use."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    answer = await call()
                except httpx.TransportError:
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if answer.is_success:
                    return answer
                # 404: submitted over the bus, and not admitted yet. 500 would be a bug of ours.
                if answer.status_code not in (404, 429, 502, 503, 504):
                    raise Refused(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
                await asyncio.sleep(PAUSE_SECONDS)
