"""The whole platform as processes of their own, each started again when it dies."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from overspill.embedded import nats_server, object_store, ports
from overspill.hub_seed import CLUSTER, POOL, TENANT, prepare
from runner.entrypoint import build
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import SEEDER
from shared.flow import STREAMS, TENANTS
from shared.parties import (
    CACHE,
    CLUSTER_METRICS,
    GATEWAY,
    LOG_COLLECTOR,
    SCHEDULER,
    Party,
    machine_party,
    service_party,
)
from shared.principal import Role
from shared.tenancy import TenantLimits, TenantRecord, new_api_key
from shared.wire import decode, encode
from tests.chaos.plan import AGENTS
from tests.chaos.processes import Supervised

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
ACTIVE_LIMIT = 12
WATCHER = Party("watcher", "hub", publishes=(), subscribes=(">",), reads=STREAMS)
QUICK = {
    # Parts, checkpoints and purges often enough for their crash points to be passed while a round runs.
    "OVERSPILL_LOG_COLLECTOR_PART_AGE_SECONDS": "0.3",
    "OVERSPILL_LOG_COLLECTOR_CHECKPOINT_SECONDS": "0.5",
    "OVERSPILL_LOG_COLLECTOR_MEMBER_TTL_SECONDS": "3",
    "OVERSPILL_SCHEDULER_KEEP_SECONDS": "6",
    # A machine is slow here, not lost: two cores start a dozen processes at once.
    "OVERSPILL_SCHEDULER_ACCEPT_SECONDS": "60",
    "OVERSPILL_CLUSTER_METRICS_SILENT_BEATS": "30",
    "OVERSPILL_AGENT_GRACE_SECONDS": "2",
    "OVERSPILL_AGENT_ORDERS_SECONDS": "2",
    "OVERSPILL_AGENT_SPARES": "2",
    "OVERSPILL_AGENT_CPU_MILLIS": "4000",
    "OVERSPILL_AGENT_MEMORY_BYTES": str(2**33),
    "OVERSPILL_AGENT_DISK_BYTES": str(2**40),
}


@dataclass
class Town:
    """Addresses, credentials and processes."""

    home: Path
    identity: Identity
    nats_url: str
    api_url: str
    token: str
    processes: dict[str, Supervised] = field(default_factory=dict)

    @property
    def attempts(self) -> list[Path]:
        return [self.home / name / "attempts" for name in AGENTS]

    def watcher(self) -> NatsBus:
        """Reads every stream."""
        return NatsBus.connect(self.nats_url, self.identity.credential(WATCHER), name="watcher")

    def service(self) -> NatsBus:
        """Submits over the bus."""
        credential = self.identity.credential(service_party(TENANT), tenant=TENANT)
        return NatsBus.connect(self.nats_url, credential, name="service")

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.api_url, headers=headers, timeout=20.0, trust_env=False)

    def leader(self) -> str:
        """The scheduler that said last that it leads."""
        said = {name: self._leads_since(name) for name in ("scheduler-1", "scheduler-2")}
        return max(said, key=lambda name: said[name])

    def _leads_since(self, name: str) -> str:
        lines = [line for line in self.processes[name].text().splitlines() if '"event":"leading"' in line]
        return lines[-1].partition('"timestamp":"')[2][:40] if lines else ""


@asynccontextmanager
async def town(home: Path) -> AsyncIterator[Town]:
    """Up and ready; ended in order afterwards, the agents first."""
    # One after the other, in the order of dependence, as `overspill up` has it; from then on everybody for himself.
    identity = Identity.create(home / "identity")
    chosen = ports.choose(("nats", "api"), {})
    nats_url, api_url = (f"{scheme}://127.0.0.1:{chosen[name]}" for scheme, name in (("nats", "nats"), ("http", "api")))
    token, _ = new_api_key("up", Role.OPERATOR, int(time.time()))
    made = Town(home, identity, nats_url, api_url, token)
    identity.add_tenant(TENANT)
    identity.add_cluster(CLUSTER)
    bus = nats_server.prepare(home / "nats", identity, port=chosen["nats"])
    store = object_store.prepare(home / "objects")
    async with asyncio.TaskGroup() as tasks:
        try:
            _add(made, tasks, "nats-server", bus, {"PATH": os.environ["PATH"]}, home / "nats")
            _add(made, tasks, "object-store", store.command, store.environment, store.directory)
            await prepare(nats_url, identity, token)
            await _limit(made)
            await object_store.until_it_stores(store.settings, START_SECONDS)
            _add_services(made, tasks, store.settings.url, store.settings.credentials_file, chosen["api"])
            _add_agents(made, tasks)
            await _until_ready(made)
            yield made
        finally:
            await _end(made)


async def _limit(town: Town) -> None:
    async with NatsBus.connect(town.nats_url, town.identity.credential(SEEDER), name="seeder") as bus:
        bucket = bus.bucket(TENANTS)
        entry = await bucket.get(TENANT)
        assert entry is not None
        record = decode(TenantRecord, entry.value)
        limits = TenantLimits(max_active_jobs=ACTIVE_LIMIT)
        await bucket.update(TENANT, encode(record.model_copy(update={"limits": limits})), entry.revision)


def _add_services(town: Town, tasks: asyncio.TaskGroup, s3_url: str, s3_file: Path | None, port: int) -> None:
    s3 = {"OVERSPILL_S3_URL": s3_url, "OVERSPILL_S3_CREDENTIALS_FILE": str(s3_file)}
    gateway = {
        "OVERSPILL_GATEWAY_PORT": str(port),
        "OVERSPILL_GATEWAY_DATA_DIR": str(town.home / "gateway"),
        "OVERSPILL_GATEWAY_IDENTITY_DIR": str(town.identity.directory),
    }
    for name, module, party, more in (
        ("cache", "services.cache", CACHE, s3),
        ("log-collector-1", "services.log_collector", LOG_COLLECTOR, s3 | {"OVERSPILL_LOG_COLLECTOR_INSTANCE": "one"}),
        ("log-collector-2", "services.log_collector", LOG_COLLECTOR, s3 | {"OVERSPILL_LOG_COLLECTOR_INSTANCE": "two"}),
        ("cluster-metrics", "services.cluster_metrics", CLUSTER_METRICS, {}),
        ("scheduler-1", "services.scheduler", SCHEDULER, {}),
        ("scheduler-2", "services.scheduler", SCHEDULER, {}),
        ("gateway", "services.gateway", GATEWAY, gateway),
    ):
        creds = town.home / f"{name}.creds"
        creds.write_text(town.identity.credential(party).to_file_text())
        _add(town, tasks, name, _python(module), _environment(town, creds) | more, town.home)


def _add_agents(town: Town, tasks: asyncio.TaskGroup) -> None:
    for name in AGENTS:
        creds = town.home / f"{name}.creds"
        credential = town.identity.credential(machine_party(CLUSTER, name), cluster=CLUSTER)
        creds.write_text(credential.to_file_text())
        environment = _environment(town, creds) | {
            "OVERSPILL_AGENT_DATA": str(town.home / name),
            "OVERSPILL_AGENT_CLUSTER": CLUSTER,
            "OVERSPILL_AGENT_MACHINE": name,
            "OVERSPILL_AGENT_POOL": POOL,
            "OVERSPILL_ENTRYPOINT": str(build.chaos_binary()),
        }
        _add(town, tasks, name, _python("runner.agent"), environment, town.home)


def _add(
    town: Town, tasks: asyncio.TaskGroup, name: str, command: list[str], environment: Mapping[str, str], at: Path
) -> None:
    made = Supervised(name, command, environment, at, town.home / f"{name}.log")
    town.processes[name] = made
    tasks.create_task(made.keep())


def _python(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def _environment(town: Town, creds: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSPILL_", "COV_"))}
    about = {"OVERSPILL_NATS_URL": town.nats_url, "OVERSPILL_NATS_CREDS_FILE": str(creds), "PYTHONPATH": str(ROOT)}
    return kept | QUICK | about


async def _until_ready(town: Town) -> None:
    """The API shows both machines."""
    async with asyncio.timeout(START_SECONDS), town.client() as client:
        while True:
            try:
                answer = await client.get("/v1/clusters")
                machines = [m for cluster in answer.json()["clusters"] for m in cluster["machines"]]
                if sum(machine["state"] == "ready" for machine in machines) == len(AGENTS):
                    return
            except (httpx.HTTPError, KeyError, ValueError):
                pass
            await asyncio.sleep(0.1)


async def _end(town: Town) -> None:
    """Agents in order, since what they run ends with them; the others at once."""
    agents = [process for name, process in town.processes.items() if name in AGENTS]
    others = [process for name, process in town.processes.items() if name not in AGENTS]
    for processes, number in ((agents, signal.SIGTERM), (others, signal.SIGKILL)):
        for process in processes:
            process.stop(number)
        for process in processes:
            await process.ended()
