"""The platform on one machine: nats-server, object store, hub and agent, started together and ended in order."""

import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

import overspill
from overspill.embedded import nats_server, object_store, ports, storing
from overspill.embedded.sole import sole_user
from overspill.embedded.supervise import Child, Children, Program
from runner.entrypoint import build
from shared.adapters.identity import Identity
from shared.adapters.nats_config import SYNC_INTERVAL_SECONDS
from shared.errors import OverspillError, Rejected
from shared.ids import token_from
from shared.parties import machine_party, service_party
from shared.settings import ObjectSettings
from shared.stream import STORE_BYTES

TENANT, CLUSTER, POOL = "default", "local", "local"
READY_SECONDS = 600.0
"""A projection made anew from a week of a busy platform takes minutes; a part that ends is noticed at once."""
STEP_GRACE_SECONDS = 5.0
AGENT_GRACE_SECONDS = STEP_GRACE_SECONDS + 7.0
"""Steps have their grace, then step-ctl tells how they ended. Without a bus (`up` was killed, and all ended at once) it
can't: what is untold then is told from the attempt's files after the next start."""


class BadUsage(Rejected):
    """{why}"""

    code = "bad_usage"


class NotReady(OverspillError):
    """The platform was not ready in {seconds:.0f} s; what it waits for is in {logs}"""

    code = "not_ready"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line was given. Port 0: one of the data directory's own, the same again after a restart."""

    data: Path
    nats_url: str | None = None
    identity: Path | None = None
    s3_url: str | None = None
    s3_credentials: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    sync_interval_seconds: float | None = SYNC_INTERVAL_SECONDS
    """Until what the bus acknowledged is safe from a loss of power; None: before it acknowledges."""
    store_bytes: int | None = None
    """What the bus may store; None: `storing.default_bytes`."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Where everything is, once it can be used."""

    url: str
    data: Path
    token_file: Path
    nats_url: str
    s3_url: str
    service_credential_file: Path
    """What a service of the first tenant shows the bus to submit jobs and follow them."""
    seconds: float

    def told(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "data": str(self.data),
            "token_file": str(self.token_file),
            "nats_url": self.nats_url,
            "s3_url": self.s3_url,
            "service_credential_file": str(self.service_credential_file),
            "pid": os.getpid(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "ready_seconds": round(self.seconds, 3),
        }


async def serve(options: Options, tell: Callable[[Ready], None], hold: Callable[[Children], None]) -> None:
    """Runs until cancelled, or until a part fails for good. `hold` is given what to kill in a hurry.

    Raises BadUsage, AlreadyRunning, DiskFull, ChildEnded and what the parts' preparation raises.
    """
    began = time.monotonic()
    data = options.data
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with sole_user(data) as lock:
        guard = await asyncio.to_thread(build.binary)
        async with Children.open(guard, data / "logs", keeps=(lock,)) as children:
            hold(children)
            try:
                await _Platform(options, children, began).run(tell)
            finally:
                (data / "server.json").unlink(missing_ok=True)


class _Platform:
    def __init__(self, options: Options, children: Children, began: float) -> None:
        self._options = options
        self._children = children
        self._began = began
        self._data = options.data
        self._ports = ports.choose(("nats", "api"), ports.remembered(options.data / "ports.json"))
        self._token_file = _token(options.data / "token")
        self._bus_directory = options.data / "nats"
        self._store_bytes = options.store_bytes or (
            STORE_BYTES if options.nats_url else storing.default_bytes(self._bus_directory)
        )

    async def run(self, tell: Callable[[Ready], None]) -> None:
        identity = await asyncio.to_thread(self._identity)
        async with asyncio.TaskGroup() as tasks:
            # The store takes a second to start: it goes first, and nobody waits for it but the hub.
            where = await self._object_store(tasks)
            nats_url = self._options.nats_url or await self._bus(identity, tasks)
            hub = await self._children.start(self._hub(nats_url, identity, where))
            agent = await self._children.start(self._agent(nats_url, identity))
            # Killed, it takes what it ran with it; the next one tells from the attempts' files how they ended.
            tasks.create_task(self._children.keep_alive(agent))
            url = await self._address(hub)
            # Started again it listens at the same address: nobody need be told of it.
            tasks.create_task(self._children.keep_alive(hub))
            ports.remember(self._data / "ports.json", self._ports)
            service = self._data / "service.creds"
            _write(service, identity.credential(service_party(TENANT), tenant=TENANT).to_file_text().encode())
            ready = Ready(
                url, self._data, self._token_file, nats_url, where.url, service, time.monotonic() - self._began
            )
            _write(self._data / "server.json", orjson.dumps(ready.told()))
            tell(ready)

    def _identity(self) -> Identity:
        identity = Identity.load(self._options.identity) if self._options.identity else None
        identity = identity or Identity.open(self._data / "identity")
        identity.add_tenant(TENANT)
        identity.add_cluster(CLUSTER)
        return identity

    async def _bus(self, identity: Identity, tasks: asyncio.TaskGroup) -> str:
        directory = self._bus_directory
        command = nats_server.prepare(
            directory,
            identity,
            port=self._ports["nats"],
            sync_interval_seconds=self._options.sync_interval_seconds,
        )
        program = Program("nats-server", tuple(command), directory)
        child = await self._children.start(program)
        url = await nats_server.until_started(directory, lambda: child.has_ended, child.log)
        tasks.create_task(self._children.keep_alive(child))

        async def restart() -> None:
            await self._children.running(program).end()

        tasks.create_task(storing.keep_storing(url, identity, directory, restart))
        return url

    async def _object_store(self, tasks: asyncio.TaskGroup) -> ObjectSettings:
        if self._options.s3_url is not None:
            return ObjectSettings(url=self._options.s3_url, credentials_file=self._options.s3_credentials)
        store = object_store.prepare(self._data / "objects")
        program = Program("object-store", tuple(store.command), store.directory, store.environment)
        child = await self._children.start(program)
        tasks.create_task(self._children.keep_alive(child))

        async def restart() -> None:
            await self._children.running(program).end()

        tasks.create_task(storing.keep_taking(store.directory, restart))
        return store.settings

    def _hub(self, nats_url: str, identity: Identity, where: ObjectSettings) -> Program:
        environment = _environment() | {
            "OVERSPILL_HUB_NATS_URL": nats_url,
            "OVERSPILL_HUB_IDENTITY": str(identity.directory),
            "OVERSPILL_HUB_DATA": str(self._data / "hub"),
            "OVERSPILL_HUB_TOKEN_FILE": str(self._token_file),
            "OVERSPILL_HUB_HOST": self._options.host,
            "OVERSPILL_HUB_STORE_BYTES": str(self._store_bytes),
            **({} if self._options.nats_url else {"OVERSPILL_HUB_STORE_DIR": str(self._bus_directory)}),
            "OVERSPILL_HUB_PORT": str(self._options.port or self._ports["api"]),
            "OVERSPILL_S3_URL": where.url,
            "OVERSPILL_S3_BUCKET": where.bucket,
            "OVERSPILL_S3_CREDENTIALS_FILE": str(where.credentials_file),
        }
        return Program("hub", _python("overspill.hub"), self._data, environment, tells_on_stdout=True)

    def _agent(self, nats_url: str, identity: Identity) -> Program:
        machine = token_from(socket.gethostname() or "local")
        credential = identity.credential(machine_party(CLUSTER, machine), cluster=CLUSTER)
        file = self._data / "agent.creds"
        _write(file, credential.to_file_text().encode())
        environment = _environment() | {
            "OVERSPILL_NATS_URL": nats_url,
            "OVERSPILL_NATS_CREDS_FILE": str(file),
            "OVERSPILL_AGENT_DATA": str(self._data / "agent"),
            "OVERSPILL_AGENT_CLUSTER": CLUSTER,
            "OVERSPILL_AGENT_MACHINE": machine,
            "OVERSPILL_AGENT_POOL": POOL,
            "OVERSPILL_AGENT_DIE_WITH_PARENT": "true",
            "OVERSPILL_AGENT_DRAIN_SECONDS": "0",
            "OVERSPILL_AGENT_GRACE_SECONDS": str(STEP_GRACE_SECONDS),
        }
        return Program("agent", _python("runner.agent"), self._data, environment, grace_seconds=AGENT_GRACE_SECONDS)

    async def _address(self, hub: Child) -> str:
        """What the hub tells once all of it is ready. Raises ChildEnded, NotReady."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                line = await hub.told_line()
                if not line:
                    await hub.wait()
                    raise hub.failure()
        except TimeoutError as error:
            raise NotReady(seconds=READY_SECONDS, logs=hub.log.parent) from error
        return str(orjson.loads(line)["url"])


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module)


def _environment() -> dict[str, str]:
    """Ours, without what is meant for the client, and with a path that finds this very code."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OVERSPILL_URL", "OVERSPILL_TOKEN")}
    here = str(Path(overspill.__file__).resolve().parents[1])
    kept["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [kept.get("PYTHONPATH")])])
    return kept


def _token(path: Path) -> Path:
    """The file with the API token of the first tenant's operator; a new one when there is none."""
    if not path.is_file():
        _write(path, f"osp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}\n".encode())
    return path


def _write(path: Path, content: bytes) -> None:
    """Whole, for its owner alone."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    beside.replace(path)
