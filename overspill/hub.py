"""The hub as one process: every service, each with a bus connection and a credential of its own.

`python -m overspill.hub` is started by `overspill up`; it tells its address in one JSON line on stdout when every
service is ready and the object store takes objects.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from overspill.embedded.object_store import until_it_stores
from overspill.hub_accounts import follow
from overspill.hub_seed import prepare
from services.cache import settings as cache
from services.cache.wiring import serve as serve_cache
from services.cluster_metrics import settings as cluster_metrics
from services.cluster_metrics.wiring import serve as serve_cluster_metrics
from services.gateway import settings as gateway
from services.gateway.wiring import listening_socket
from services.gateway.wiring import serve as serve_gateway
from services.log_collector import settings as log_collector
from services.log_collector.wiring import serve as serve_log_collector
from services.scheduler import settings as scheduler
from services.scheduler.wiring import serve as serve_scheduler
from shared.adapters.accounts import Accounts
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import SEEDER
from shared.adapters.s3_objects import S3Objects
from shared.backoff import until_available
from shared.errors import OverspillError
from shared.parties import CACHE, CLUSTER_METRICS, GATEWAY, HUB_PARTIES, LOG_COLLECTOR, SCHEDULER, Party
from shared.run import run_service
from shared.settings import ObjectSettings
from shared.stream import STORE_BYTES
from shared.telemetry import telemetry
from shared.telemetry_settings import TelemetrySettings

log = structlog.get_logger()


class ServiceEnded(OverspillError):
    """The service {name} ended by itself; its last lines in the hub's log say why."""

    code = "service_ended"


class Settings(BaseSettings):
    """Environment `OVERSPILL_HUB_…`; the object store's is `OVERSPILL_S3_…`, each service's its own."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_HUB_", extra="ignore")

    nats_url: str
    identity: Path
    data: Path = Field(description="holds the gateway's projection; may be deleted")
    token_file: Path
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    store_bytes: int = Field(default=STORE_BYTES, ge=1, description="what the bus may store")
    replicas: int = Field(default=1, ge=1, le=5, description="of each stream: as many servers keep it")
    store_dir: Path | None = Field(default=None, description="where it stores, when that is on this machine")


async def main() -> None:
    settings = Settings()
    identity = Identity.load(settings.identity)
    door = listening_socket(settings.host, settings.port)
    token = settings.token_file.read_text().strip()
    await prepare(settings.nats_url, identity, token, settings.store_bytes, settings.replicas)
    await serve(settings, identity, door, _tell)


def _tell(url: str) -> None:
    sys.stdout.buffer.write(orjson.dumps({"url": url}) + b"\n")
    sys.stdout.buffer.flush()


async def serve(settings: Settings, identity: Identity, door: socket.socket, tell: Callable[[str], None]) -> None:
    """Runs until cancelled. `tell` is called with the API's address once every service is ready."""
    where = ObjectSettings()
    host, port = door.getsockname()[:2]
    at_gateway = gateway.Settings(
        data_dir=settings.data / "gateway", host=host, port=port, store_dir=settings.store_dir
    )
    async with AsyncExitStack() as stack:
        objects = await stack.enter_async_context(S3Objects.connect(where))

        async def bus(party: Party) -> NatsBus:
            credential = identity.credential(party)
            return await until_available(
                f"the bus of {party.name}",
                lambda: stack.enter_async_context(NatsBus.connect(settings.nats_url, credential, name=party.name)),
            )

        readies = {party: asyncio.Event() for party in HUB_PARTIES}
        services: dict[Party, Coroutine[Any, Any, None]] = {
            CACHE: serve_cache(cache.Settings(), await bus(CACHE), objects, readies[CACHE]),
            LOG_COLLECTOR: serve_log_collector(
                log_collector.Settings(), await bus(LOG_COLLECTOR), objects, readies[LOG_COLLECTOR]
            ),
            CLUSTER_METRICS: serve_cluster_metrics(
                cluster_metrics.Settings(), await bus(CLUSTER_METRICS), readies[CLUSTER_METRICS]
            ),
            SCHEDULER: serve_scheduler(scheduler.Settings(), await bus(SCHEDULER), readies[SCHEDULER]),
            GATEWAY: serve_gateway(at_gateway, await bus(GATEWAY), identity, readies[GATEWAY], sock=door),
        }
        accounts = await until_available(
            "the bus of accounts", lambda: stack.enter_async_context(Accounts.connect(settings.nats_url, identity))
        )
        seeder = await bus(SEEDER)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(accounts, seeder), name="accounts")
            for party, service in services.items():
                tasks.create_task(_run(party.name, service), name=party.name)
            await until_it_stores(where)
            for ready in readies.values():
                await ready.wait()
            tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")


async def _run(name: str, service: Coroutine[Any, Any, None]) -> None:
    structlog.contextvars.bind_contextvars(service=name)
    async with telemetry(name, TelemetrySettings()):
        await service
    raise ServiceEnded(name=name)


if __name__ == "__main__":
    sys.exit(run_service("hub", main))
