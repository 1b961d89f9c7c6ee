"""A machine without an agent: real entrypoints and real step-ctls, whose logs go to a real collector and are read at a
real gateway. Only the scheduler's moves are a test's.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from runner.agent.cgroups import NoCgroups
from runner.agent.claiming import Began, Claims, Machine
from runner.agent.processes import entrypoint_command, kill_steps
from runner.entrypoint import build
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import groups
from services.log_collector.settings import Settings
from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import stream_config
from shared.bus import Bus
from shared.facts import AttemptEnded, Desired, Order
from shared.flow import EVT, LOG, Evt
from shared.needs import Needs
from shared.objects import Objects
from shared.parties import LOG_COLLECTOR, attempt_party
from shared.requests import Grant
from shared.spec import JobSpec
from shared.wire import decode
from tests.conftest import BusServer
from tests.integration.gateway.conftest import Gateway, eventually
from tests.integration.log_collector.steps import collecting
from tests.integration.runner.waiting import until_process_gone

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 120.0
PLACED = {"cluster": "c1", "pool": "local", "target": "m1"}


@dataclass
class Attempt:
    """What runs, and what it runs in."""

    job: str
    epoch: int
    directory: AttemptDir
    entrypoints: "list[subprocess.Popen[bytes]]"
    teller: "subprocess.Popen[bytes]"
    steps: range

    def kill(self) -> None:
        """As the power goes: everything at once."""
        for process in (*self.entrypoints, self.teller):
            process.kill()
        kill_steps(self.directory.work, self.steps)
        for process in (*self.entrypoints, self.teller):
            process.wait()

    def lose(self) -> None:
        """The machine is gone, and so is its disk."""
        self.kill()
        shutil.rmtree(self.directory.root)


@dataclass
class Place:
    """Bus, gateway, and the machine's directory."""

    server: BusServer
    gateway: Gateway
    objects: Objects
    root: Path
    bus: NatsBus
    attempts: list[Attempt] = field(default_factory=list)
    log_limit_bytes: int = 0

    async def start(self, spec: dict[str, Any], *, epoch: int = 1, job: str | None = None) -> Attempt:
        job = job or await self.gateway.submit(spec)
        await self.gateway.move(job, state="placed", epoch=epoch, placement=PLACED, placed_unix_ns=2)
        order = Order(
            tenant=self.gateway.tenant,
            job=job,
            epoch=epoch,
            cluster="c1",
            target="m1",
            desired=Desired.RUN,
            needs=Needs(cpu_millis=100, memory_bytes=2**28, disk_bytes=2**28),
            on_lost="rerun",
            fence_seconds=60,
            timeout_seconds=600,
            term=1,
        )
        party = attempt_party(self.gateway.tenant, job, epoch)
        credential = self.server.identity.credential(party, tenant=self.gateway.tenant)
        parsed = JobSpec.model_validate(spec)
        grant = Grant(
            tenant=self.gateway.tenant,
            job=job,
            epoch=epoch,
            spec=parsed,
            bus_urls=[self.server.url],
            bus_jwt=credential.jwt,
            bus_seed=credential.seed,
            created_unix_ns=time.time_ns(),
        )
        claims = Claims(cast("Bus", None), self._machine(), NoCgroups())
        (self.root / f"{order.tenant}.{order.job}.{order.epoch}").mkdir(parents=True, exist_ok=True)
        directory = claims.lay_out(order, grant, Began())
        attempt = Attempt(
            job,
            epoch,
            directory,
            [self._process(entrypoint_command(build.binary(), directory.root, each)) for each in groups(parsed)],
            self.tell(directory),
            range(1, len(parsed.steps) + 1),
        )
        self.attempts.append(attempt)
        return attempt

    def tell(self, directory: AttemptDir) -> "subprocess.Popen[bytes]":
        return self._process([sys.executable, "-P", "-m", "runner.step_ctl", str(directory.root)])

    def _process(self, command: list[str]) -> "subprocess.Popen[bytes]":
        with (self.root / "processes.err").open("ab") as errors:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            return subprocess.Popen(command, stdout=errors, stderr=errors, env=environment, start_new_session=True)

    def _machine(self) -> Machine:
        return Machine(
            cluster="c1",
            machine="m1",
            attempts=self.root,
            contact_file=self.root / "contact",
            entrypoint=build.binary(),
            environment={"PATH": os.environ["PATH"]},
            home_files=(),
            home=self.root,
            grace_seconds=1.0,
            log_limit_bytes=self.log_limit_bytes,
        )

    async def ended(self, attempt: Attempt) -> AttemptEnded:
        """What its step-ctl told at the end; the record follows, as the scheduler has it."""
        subject = Evt.filter(tenant=self.gateway.tenant, job=attempt.job, epoch=attempt.epoch, kind="attempt-ended")
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for message in self.bus.tail(EVT, subject, from_seq=1):
                ended = decode(AttemptEnded, message.data)
                await self.end(attempt.job, ended.outcome, ended.reason.value)
                return ended
        raise AssertionError

    async def end(self, job: str, state: str, reason: str) -> None:
        await self.gateway.move(job, state=state, reason=reason, ended_unix_ns=3)
        await eventually(lambda: self.gateway.get(f"/v1/jobs/{job}"), lambda answer: answer.json()["state"] == state)

    async def until(self, attempt: Attempt, kind: str) -> None:
        """A fact of this kind was told."""
        subject = Evt.filter(tenant=self.gateway.tenant, job=attempt.job, epoch=attempt.epoch, kind=kind)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await anext(aiter(self.bus.tail(EVT, subject, from_seq=1)))

    async def bound_backlog(self, chunks: int) -> None:
        """LOG takes no more than this of one log."""
        stream = replace(LOG, max_messages_per_subject=chunks)
        await api(self.bus, f"STREAM.UPDATE.{LOG.name}", stream_config(stream, 1))

    async def told(self, attempt: Attempt) -> None:
        """Every byte is durable: the step-ctl ended by itself."""
        assert await asyncio.wait_for(asyncio.to_thread(attempt.teller.wait), PATIENCE_SECONDS) == 0
        assert attempt.directory.told.exists()

    @asynccontextmanager
    async def collecting(self, settings: Settings) -> AsyncIterator[None]:
        credential = self.server.identity.credential(LOG_COLLECTOR)
        async with self.server.connect(credential) as bus, collecting(settings, bus, self.objects):
            yield

    def close(self) -> None:
        for attempt in self.attempts:
            with contextlib.suppress(ProcessLookupError):
                attempt.kill()


def server_pid(directory: Path) -> int:
    """The nats-server of this directory; not the guard above it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"nats-server") and any(str(directory).encode() in word for word in words):
                    return int(entry.name)
    raise AssertionError(f"no nats-server serves {directory}")


async def kill_server(server: BusServer) -> None:
    """SIGKILL, and nothing is told to anybody. `server.restart()` starts it again on the same data."""
    pid = server_pid(server.directory)
    os.kill(pid, signal.SIGKILL)
    await until_process_gone(pid)
