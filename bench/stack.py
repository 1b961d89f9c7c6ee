"""The platform's parts as a figure needs them: bus and object store alone, with the hub in one process, or with each
service in its own as the chart deploys them. Everything ends with the `async with`.
"""

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from bench.measuring import children
from overspill.embedded import nats_server, object_store
from overspill.embedded.supervise import Child, Children, Program
from overspill.hub_seed import CLUSTER, TENANT, prepare
from runner.entrypoint.build import binary
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_config import SYNC_INTERVAL_SECONDS
from shared.credential import Credential
from shared.parties import CACHE, CLUSTER_METRICS, GATEWAY, LOG_COLLECTOR, SCHEDULER, Party
from shared.settings import ObjectSettings

Shape = Literal["hub", "services", "bus"]
SERVICES: dict[Party, str] = {
    CLUSTER_METRICS: "services.cluster_metrics",
    CACHE: "services.cache",
    LOG_COLLECTOR: "services.log_collector",
    SCHEDULER: "services.scheduler",
    GATEWAY: "services.gateway",
}
READY_SECONDS = 90.0


@contextmanager
def scratch() -> Iterator[Path]:
    """On a disk: what /tmp is made of differs from machine to machine, OVERSPILL_BENCH_SCRATCH says where else."""
    with tempfile.TemporaryDirectory(prefix="overspill-bench-", dir=os.environ.get("OVERSPILL_BENCH_SCRATCH")) as path:
        yield Path(path)


@dataclass
class Stack:
    directory: Path
    children: Children
    identity: Identity
    nats_url: str = ""
    api_url: str = ""
    objects: ObjectSettings | None = None
    _guards: dict[str, int] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return (self.directory / "token").read_text().strip()

    @property
    def projection(self) -> Path:
        return self.directory / "gateway" / "projection.sqlite"

    @asynccontextmanager
    async def connect(self, party: Party, **whose: str) -> AsyncIterator[NatsBus]:
        credential = self.identity.credential(party, **whose)  # type: ignore[arg-type]  # tenant, cluster: names
        async with NatsBus.connect(self.nats_url, credential, name=party.name) as bus:
            yield bus

    def credential_file(self, name: str, credential: Credential) -> Path:
        path = self.directory / f"{name}.creds"
        path.touch(mode=0o600)
        path.write_text(credential.to_file_text())
        return path

    async def start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> Child:
        """A process of the figure's own."""
        program = Program(name, command, self.directory, _environment() | (environment or {}), tells_on_stdout=True)
        child = await self.children.start(program)
        self.note(name, child)
        return child

    async def run(self, child: Child) -> bytes:
        """The next line a process tells. Raises ChildEnded."""
        line = await child.told_line()
        if not line:
            await child.wait()
            raise child.failure()
        return line

    def note(self, name: str, child: Child) -> None:
        self._guards[name] = child._process.pid  # noqa: SLF001 - measured from outside

    def processes(self) -> dict[str, int]:
        """Name to pid of what runs under each guard: what is measured."""
        return {name: children(guard)[1] for name, guard in self._guards.items()}


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSPILL_", "OTEL_"))}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1])}


def python(module: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module, *words)


@asynccontextmanager
async def opened(
    directory: Path,
    shape: Shape,
    *,
    sync_always: bool = False,
    store: bool = True,
    sampled: float | None = None,
) -> AsyncIterator[Stack]:
    """`sampled`: this share of traces goes to a collector that keeps none; None: no tracing."""
    identity = Identity.open(directory / "identity")
    identity.add_tenant(TENANT)
    identity.add_cluster(CLUSTER)
    token = directory / "token"
    if not token.exists():
        token.write_text(f"osp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}\n")
    async with Children.open(binary(), directory / "logs") as started:
        stack = Stack(directory, started, identity)
        await _bus(stack, sync_always=sync_always)
        if store:
            await _store(stack)
        environment = await _traced(stack, sampled) if sampled is not None else {}
        if shape == "bus":
            await prepare(stack.nats_url, identity, stack.token)
        elif shape == "hub":
            await _hub(stack, environment)
        else:
            await prepare(stack.nats_url, identity, stack.token)
            await _services(stack, environment)
        yield stack


async def _bus(stack: Stack, *, sync_always: bool) -> None:
    directory = stack.directory / "nats"
    interval = None if sync_always else SYNC_INTERVAL_SECONDS
    command = nats_server.prepare(directory, stack.identity, sync_interval_seconds=interval)
    child = await stack.children.start(Program("nats-server", tuple(command), directory))
    stack.nats_url = await nats_server.until_started(directory, lambda: child.has_ended, child.log)
    stack.note("nats-server", child)


async def _store(stack: Stack) -> None:
    store = object_store.prepare(stack.directory / "objects")
    child = await stack.children.start(Program("weed", tuple(store.command), store.directory, store.environment))
    stack.objects = store.settings
    await object_store.until_it_stores(store.settings)
    stack.note("weed", child)


async def _traced(stack: Stack, sampled: float) -> dict[str, str]:
    sink = await stack.start("span-sink", *python("bench.sink"))
    url = orjson.loads(await stack.run(sink))["url"]
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_SAMPLER_ARG": str(sampled)}


def _s3(stack: Stack) -> dict[str, str]:
    assert stack.objects is not None
    return {
        "OVERSPILL_S3_URL": stack.objects.url,
        "OVERSPILL_S3_BUCKET": stack.objects.bucket,
        "OVERSPILL_S3_CREDENTIALS_FILE": str(stack.objects.credentials_file),
    }


async def _hub(stack: Stack, environment: dict[str, str]) -> None:
    hub = await stack.start(
        "hub",
        *python("overspill.hub"),
        environment={
            **environment,
            **_s3(stack),
            "OVERSPILL_HUB_NATS_URL": stack.nats_url,
            "OVERSPILL_HUB_IDENTITY": str(stack.identity.directory),
            "OVERSPILL_HUB_DATA": str(stack.directory),
            "OVERSPILL_HUB_TOKEN_FILE": str(stack.directory / "token"),
        },
    )
    async with asyncio.timeout(READY_SECONDS):
        stack.api_url = str(orjson.loads(await stack.run(hub))["url"])


async def _services(stack: Stack, environment: dict[str, str]) -> None:
    from overspill.embedded import ports

    port = ports.choose(("api",), {})["api"]
    for party, module in SERVICES.items():
        await stack.start(
            party.name,
            *python(module),
            environment={
                **environment,
                **_s3(stack),
                "OVERSPILL_NATS_URL": stack.nats_url,
                "OVERSPILL_NATS_CREDS_FILE": str(stack.credential_file(party.name, stack.identity.credential(party))),
                "OVERSPILL_GATEWAY_PORT": str(port),
                "OVERSPILL_GATEWAY_DATA_DIR": str(stack.directory / "gateway"),
                "OVERSPILL_GATEWAY_IDENTITY_DIR": str(stack.identity.directory),
            },
        )
    stack.api_url = f"http://127.0.0.1:{port}"
    await _until_ready(stack.api_url)


async def _until_ready(url: str) -> None:
    import httpx

    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(f"{url}/readyz")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)  # it tells nobody that it listens
