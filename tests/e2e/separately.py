"""The platform in pieces: every service and the agent a process of its own, as an operator deploys them."""

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats

from overspill.hub_seed import CLUSTER, TENANT, prepare
from shared.parties import HUB_PARTIES, Party, machine_party, service_party
from shared.settings import ObjectSettings
from tests.conftest import BusServer
from tests.e2e.platform import clean_environment

MACHINE = "box"
PATIENCE_SECONDS = 300


@dataclass
class Separately:
    home: Path
    bus: BusServer
    objects: ObjectSettings
    environment: Mapping[str, str] = field(default_factory=dict)
    """Besides what each needs."""
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.token = f"osp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {self.token}"}, timeout=120
        )

    def start(self) -> None:
        """Returns when jobs can be taken and a machine is there."""
        asyncio.run(prepare(self.bus.url, self.bus.identity, self.token))
        for party in HUB_PARTIES:
            self.start_one(party.name, f"services.{party.name.replace('-', '_')}", party)
        self.start_one("agent", "runner.agent", machine_party(CLUSTER, MACHINE), cluster=CLUSTER)
        self.until(self._has_a_machine)

    def start_one(self, name: str, module: str, party: Party, cluster: str | None = None) -> None:
        creds = self.home / f"{name}.creds"
        creds.write_text(self.bus.identity.credential(party, cluster=cluster).to_file_text())
        own = {
            "OVERSPILL_NATS_URL": self.bus.url,
            "OVERSPILL_NATS_CREDS_FILE": str(creds),
            "OVERSPILL_S3_URL": self.objects.url,
            "OVERSPILL_S3_BUCKET": self.objects.bucket,
            "OVERSPILL_S3_CREDENTIALS_FILE": str(self.objects.credentials_file),
            "OVERSPILL_GATEWAY_PORT": str(self.port),
            "OVERSPILL_GATEWAY_DATA_DIR": str(self.home / "gateway"),
            "OVERSPILL_GATEWAY_IDENTITY_DIR": str(self.bus.identity.directory),
            "OVERSPILL_AGENT_DATA": str(self.home / "agent"),
            "OVERSPILL_AGENT_CLUSTER": CLUSTER,
            "OVERSPILL_AGENT_POOL": "local",
            "OVERSPILL_AGENT_MACHINE": MACHINE,
            "OVERSPILL_AGENT_DIE_WITH_PARENT": "true",
            "OVERSPILL_AGENT_DRAIN_SECONDS": "0",
            "OVERSPILL_AGENT_GRACE_SECONDS": "1",
        }
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(self.home) | own | dict(self.environment),
                cwd=self.home,
            )

    def end(self) -> None:
        """Every process in order; what they had to tell is told then."""
        for name in ("agent", *(party.name for party in HUB_PARTIES)):
            process = self.processes.pop(name, None)
            if process is not None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_SECONDS) == 0, self.log(name)

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def _has_a_machine(self) -> bool:
        try:
            answer = self.http.get("/v1/clusters")
        except httpx.TransportError:
            return False
        return answer.is_success and any(cluster["machines_ready"] for cluster in answer.json()["clusters"])

    def until(self, look: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not look():
            for name, process in self.processes.items():
                assert process.poll() is None, self.log(name)[-3000:]
            assert time.monotonic() < deadline, {name: self.log(name)[-1500:] for name in self.processes}
            time.sleep(0.1)  # several processes, and no event they share

    def submit(self, spec: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> str:
        answer = self.http.post("/v1/jobs", json=spec, headers=dict(headers or {}))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ended(self, job: str) -> dict[str, Any]:
        """The job, once it is over; its event stream says when."""
        for _ in range(2):
            path = f"/v1/jobs/{job}/events"
            with self.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as events:
                for line in events.iter_lines():
                    if line.startswith("event: end"):
                        break
        found: dict[str, Any] = self.http.get(f"/v1/jobs/{job}").json()
        return found

    def until_event(self, job: str, kind: str) -> None:
        path = f"/v1/jobs/{job}/events"
        with self.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as events:
            assert any(kind in line for line in events.iter_lines())

    def publish(self, spec: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """As a service that knows nothing but nats."""
        creds = self.home / "service.creds"
        creds.write_text(self.bus.identity.credential(service_party(TENANT), tenant=TENANT).to_file_text())

        async def work() -> None:
            bus = await nats.connect(
                self.bus.url, user_credentials=str(creds), inbox_prefix=f"_INBOX_service-{TENANT}".encode()
            )
            head = {"ce-specversion": "1.0", "ce-type": "overspill.job.submitted.v1", **headers}
            await bus.request(f"submit.{TENANT}", json.dumps({"spec": spec}).encode(), headers=head, timeout=120)
            await bus.close()

        asyncio.run(work())


@contextmanager
def running(home: Path, bus: BusServer, objects: ObjectSettings, **environment: str) -> Iterator[Separately]:
    pieces = Separately(home, bus, objects, environment)
    try:
        pieces.start()
        yield pieces
        pieces.end()
    finally:
        pieces.http.close()
        for process in pieces.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
