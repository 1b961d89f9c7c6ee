"""`python -m tests.protocol.record v1`: run jobs on a real agent and keep what it says, hears and writes, as it was.

For a new version of the protocol only: what is kept of a version that was released is never recorded again.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overspill.embedded import object_store
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.adapters.s3_objects import S3Objects
from shared.bus import Headers, Message
from shared.facts import Desired, JobRecord
from shared.flow import Ask
from shared.lifecycle import JobState
from shared.needs import Needs
from shared.requests import Presigned, UrlsAsked, UrlsTold
from shared.wire import encode
from tests.conftest import BusServer, guarded
from tests.integration.runner.hub import CLUSTER, HUB, TENANT, AgentProcess, Hub, mine
from tests.integration.runner.waiting import until_there
from tests.protocol.compat import read_by, written_by
from tests.protocol.kept import EVERY, HERE

TOLD = ("evt.>", "log.>", "hb.>")
JOB = {
    "name": "recorded",
    "env": {"GREETING": "hello"},
    "steps": [
        {"name": "db", "background": True, "run": "sleep 1000", "ready": "true"},
        {"name": "greet", "run": 'echo "$GREETING"; echo "word=$GREETING" >>"$OVERSPILL_OUTPUT"'},
        {"name": "sum", "run": 'echo "# done" >>"$OVERSPILL_SUMMARY"; echo kept >result', "timeout": "1m"},
    ],
    "artifacts": [{"name": "result", "paths": ["result"]}],
}
SECRET = {"bus_jwt": "a.user.jwt", "bus_seed": "SUAEXAMPLE"}


@dataclass
class RecordingHub(Hub):
    """Notes every question with its answer."""

    kept: list[dict[str, Any]] = field(default_factory=list)

    async def _noted(self, message: Message, answer: Callable[[Message], Awaitable[tuple[bytes, Headers]]]) -> Any:
        data, headers = await answer(message)
        asked = {"by": "edge", "subject": message.subject, "headers": as_sent(message.headers)}
        self.kept.append(
            asked | {"data": message.data.decode(), "answer": data.decode(), "answer_headers": dict(headers)}
        )
        return data, headers

    async def _orders(self, message: Message) -> tuple[bytes, Headers]:
        return await self._noted(message, super()._orders)  # type: ignore[no-any-return]

    async def _grant(self, message: Message) -> tuple[bytes, Headers]:
        return await self._noted(message, super()._grant)  # type: ignore[no-any-return]

    async def _durable(self, message: Message) -> tuple[bytes, Headers]:
        return await self._noted(message, super()._durable)  # type: ignore[no-any-return]

    async def _urls(self, message: Message) -> tuple[bytes, Headers]:
        return await self._noted(message, super()._urls)  # type: ignore[no-any-return]


def as_sent(headers: Headers) -> dict[str, str]:
    """Without what the server adds."""
    sent = ("Nats-Msg-Id", "Nats-Expected-Last-Subject-Sequence")
    return {name: value for name, value in headers.items() if name in sent or not name.startswith("Nats-")}


async def listen(bus: NatsBus, kept: list[dict[str, Any]], ready: asyncio.Event) -> None:
    async with bus.listen(*TOLD, "desired.>") as messages:
        ready.set()
        async for message in messages:
            by = "hub" if message.subject.startswith("desired.") else "edge"
            data = message.data.decode(errors="replace")
            kept.append({"by": by, "subject": message.subject, "headers": as_sent(message.headers), "data": data})


async def record(home: Path, ends: ExitStack) -> tuple[list[dict[str, Any]], Path]:
    server = BusServer(home / "nats", Identity.create(home / "identity"))
    server.identity.add_tenant(TENANT)
    server.identity.add_cluster(CLUSTER)
    server.start()
    ends.callback(server.stop)
    async with server.connect(server.identity.credential(PROVISIONER)) as bus:
        await provision(bus)
    store = object_store.prepare(home / "objects")
    ends.enter_context(guarded(store.command, home / "weed.log", store.environment, store.directory))
    await object_store.until_it_stores(store.settings)
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        S3Objects.connect(store.settings) as objects,
        RecordingHub.serving(bus, server.identity, server.url, home) as hub,
    ):

        async def urls(about: Ask, asked: UrlsAsked) -> UrlsTold:
            put = {}
            for name in asked.artifacts:
                key = f"t/{TENANT}/artifacts/{about.job}/{about.epoch}/{name}"
                url = await objects.presign("PUT", key, expires_seconds=600)
                put[name] = Presigned(method="PUT", url=url, key=key, expires_unix=2**31)
            return UrlsTold(artifacts=put)

        hub.urls = urls
        ready = asyncio.Event()
        listening = asyncio.create_task(listen(bus, hub.kept, ready))
        await ready.wait()
        agent = AgentProcess(hub, home / "m1").start()
        try:
            hub.durable_open = False
            order = await hub.order(JOB, agent.machine)
            await hub.ended(order)
            await until_there(agent.attempt(order) / "finish")
            attempt = home / "kept"
            await asyncio.to_thread(shutil.copytree, agent.attempt(order), attempt, symlinks=True)
            hub.durable_open = True
            hub.urls = None
            doomed = await hub.order({"steps": [{"run": "sleep 1000"}]}, agent.machine)
            await hub.until(doomed.job, "step-started")
            await hub.change(doomed, desired=Desired.CANCEL)
            await hub.ended(doomed)
            await hub.until(doomed.job, "attempt-ended")
        finally:
            agent.signal(signal.SIGTERM)
            for pid in mine(agent.data):
                os.kill(pid, signal.SIGKILL)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return hub.kept, attempt


def without_secrets(text: str) -> str:
    try:
        told = json.loads(text)
    except ValueError:
        return text
    if not isinstance(told, dict):
        return text
    for holder in (told, told.get("grant", {})):
        holder.update({name: value for name, value in SECRET.items() if name in holder})
    for address in told.get("artifacts", {}).values() if isinstance(told.get("artifacts"), dict) else ():
        address["url"] = "http://127.0.0.1:8333/bucket/key?signature"
    if "helper_env" in told:
        told |= {"helper_env": {"PATH": "/usr/bin:/bin"}, "entrypoint": "/opt/overspill/entrypoint"}
        told["boot_id"] = "6d1c4b0e-0000-4000-8000-000000000000"
    return json.dumps(told, separators=(",", ":"))


def keep_attempt(source: Path, target: Path, root: str) -> None:
    names = ("config", "started", "ready", "exit", "log", "log.idx", "output.out", "env.out", "summary.out")
    files = [source / name for name in ("protocol", "order.json", "attempt.json", "finish")]
    files += sorted(source.glob("go/*")) + [path for name in names for path in sorted(source.glob(f"steps/*/{name}"))]
    for file in files:
        if file.is_file():
            to = target / file.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            data = file.read_bytes()
            if file.suffix == ".json":
                data = without_secrets(data.decode()).encode()
            to.write_bytes(data if file.name == "log.idx" else data.replace(root.encode(), b"/attempt"))


def keep_messages(messages: list[dict[str, Any]], target: Path) -> None:
    """One or two of each kind: enough to read, few enough to look at."""
    count: dict[str, int] = {}
    kept = []
    for message in messages:
        tokens = message["subject"].split(".")
        kind = ".".join(
            (tokens[0], tokens[-1] if tokens[0] != "log" else "", message["headers"].get("Overspill-Last", ""))
        )
        ended = tokens[-1] in ("attempt-ended", "step-ended", "step-started")
        count[kind] = count.get(kind, 0) + 1
        if count[kind] <= (8 if ended else 2):
            for name in ("data", "answer"):
                if name in message:
                    message[name] = without_secrets(message[name])
            kept.append(message)
    target.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def keep_schemas(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for model in EVERY:
        schemas = {"reads": read_by(model), "writes": written_by(model)}
        (target / f"{model.__name__}.json").write_text(json.dumps(schemas, indent=1, sort_keys=True) + "\n")


def keep_record(target: Path) -> None:
    """A record as the hub leaves it in JOBS."""
    record = JobRecord(
        tenant=TENANT,
        job="recorded",
        name="recorded",
        state=JobState.QUEUED,
        created_unix_ns=1_700_000_000_000_000_000,
        content_hash="0" * 64,
        needs=Needs(cpu_millis=1000, memory_bytes=2**30, disk_bytes=2**30),
        timeout_seconds=3600,
        step_count=3,
        submitted_by="ci",
        write_id="recorded",
    )
    target.write_bytes(encode(record) + b"\n")


def main(version: str) -> None:
    target = HERE / version
    if (target / "messages.json").exists():
        sys.exit(f"{target} is kept already: a version that was released is never recorded again")
    with tempfile.TemporaryDirectory() as made, ExitStack() as ends:
        home = Path(made)
        messages, attempt = asyncio.run(record(home, ends))
        order = json.loads((attempt / "order.json").read_bytes())
        root = str(home / "m1/attempts" / f"{order['job']}-{order['epoch']}")
        keep_attempt(attempt, target / "attempt", root)
        keep_messages(messages, target / "messages.json")
    keep_schemas(target / "schemas")
    keep_record(target / "record.json")


if __name__ == "__main__":
    main(sys.argv[1])
