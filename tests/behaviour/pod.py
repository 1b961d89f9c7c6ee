"""A pod of processes: each container a process with a plan of its own, started again when it fails as a kubelet would,
sharing one directory. No Kubernetes; step-ctl and entrypoint are the real ones.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.controller.grouping import containers
from runner.entrypoint.build import binary
from runner.protocol.attempt import Assignment
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Fence, Whose, layout
from runner.protocol.layout import Place as LayoutPlace
from runner.protocol.plan import plans
from shared.facts import AttemptEnded, Order
from shared.flow import Edge, Evt
from shared.ids import random_id
from shared.pods import PodTemplate
from shared.requests import Grant, GrantAsked
from shared.spec import JobSpec
from shared.wire import decode, encode
from tests.behaviour.machine import HubRun, processes_of
from tests.behaviour.place import GRACE_SECONDS
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, HUB, PATIENCE_SECONDS, ROOT, Hub

TARGET = "kube"
BACKOFF_SECONDS = 0.2
IMAGE_ENVIRONMENT = {"PATH": os.environ["PATH"], "IMAGE": "its own"}
TERMINATION_SECONDS = 20.0


class Container:
    """One process and all it starts: when it is gone they are, as with the namespace of a real one. `entrypoint guard`
    sees to that, and stands where containerd would.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.next_start = asyncio.Event()
        self.codes: list[int] = []
        self.running = asyncio.Event()
        self._command = list(command)
        self._directory = directory
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._deleted = False

    async def keep(self) -> None:
        """restartPolicy: OnFailure."""
        while not self._deleted:
            code = await self._run()
            self.codes.append(code)
            if code == 0:
                break
            if not self._deleted:
                await asyncio.sleep(BACKOFF_SECONDS)
        self.next_start.set()

    async def _run(self) -> int:
        lifeline, held = os.pipe()
        guard = [str(binary()), "guard", "--lifeline", str(lifeline), "--grace", "0", "--"]
        try:
            with (self._directory / f"{self.name}.err").open("ab") as errors:
                self._process = await asyncio.create_subprocess_exec(
                    *guard, *self._command, env=self._environment, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
                    stdout=errors, stderr=errors, pass_fds=(lifeline,), start_new_session=True,
                )  # fmt: skip
            os.close(lifeline)
            self.running.set()
            self.next_start.set()
            self.next_start = asyncio.Event()
            return await self._process.wait()
        finally:
            self.running.clear()
            os.close(held)

    @property
    def main(self) -> int | None:
        """Its process 1."""
        if self._process is None or self._process.returncode is not None:
            return None
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = self._process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return int(children[0]) if children else None
        return None

    def signal(self, number: signal.Signals) -> None:
        pid = self.main
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def kill(self) -> None:
        """SIGKILL for its process 1, once it has one; returns when it was started again, or has ended for good."""
        again = self.next_start
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.main is None:
                await asyncio.sleep(0.01)  # nothing tells that the guard has started it
            self.signal(signal.SIGKILL)
            await again.wait()

    def retire(self) -> None:
        """It is not started again."""
        self._deleted = True

    def delete(self) -> None:
        self.retire()
        self.signal(signal.SIGTERM)

    def complaints(self) -> str:
        path = self._directory / f"{self.name}.err"
        return path.read_text() if path.exists() else ""


@dataclass
class PodRun(HubRun):
    root: Path
    containers: dict[str, Container] = field(default_factory=dict)
    keeping: "list[asyncio.Task[None]]" = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.root / "job"

    def start(self, *names: str) -> None:
        """The containers of these names, all unless told."""
        for name in names or self.containers:
            self.keeping.append(asyncio.create_task(self.containers[name].keep()))

    async def succeeded(self) -> None:
        """Every container that was started has ended for good."""
        await asyncio.wait_for(asyncio.shield(asyncio.gather(*self.keeping)), PATIENCE_SECONDS)

    async def delete(self) -> None:
        """As a kubelet does: SIGTERM to each, and time."""
        for container in self.containers.values():
            container.delete()
        await asyncio.wait(self.keeping, timeout=TERMINATION_SECONDS)
        await self.kill()

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """What a kubelet does of it; there is no controller to tell more."""
        await self.delete()
        yield

    async def kill(self) -> None:
        for task in self.keeping:
            task.cancel()
        await asyncio.gather(*self.keeping, return_exceptions=True)

    async def left(self) -> list[str]:
        await self.succeeded()
        shutil.rmtree(self.root)
        return processes_of(self.order.job)

    def complaints(self) -> str:
        return "".join(container.complaints() for container in self.containers.values())


@dataclass
class PodPlace:
    hub: Hub
    root: Path
    loopback: str = "127.0.0.1"
    runs: list[PodRun] = field(default_factory=list)

    async def submit(self, spec: dict[str, Any], *, timeout_seconds: float = 600.0) -> PodRun:
        run = await self.prepare(spec, timeout_seconds=timeout_seconds)
        run.start()
        return run

    async def prepare(self, spec: dict[str, Any], *, limit: int = 200, **changes: Any) -> PodRun:
        """What the controller makes of an order; nothing runs."""
        order = await self.hub.order(spec, TARGET, **changes)
        asked = GrantAsked(tenant=order.tenant, job=order.job, epoch=order.epoch)
        grant = decode(Grant, (await self.hub.bus.request(Edge(CLUSTER, TARGET, "grant"), encode(asked))).data)
        run = PodRun(self.hub, order, self.root / f"{order.job}-{order.epoch}")
        groups = containers(grant.spec, PodTemplate(container_limit=limit, share_containers="limit"))
        write_secret(run.root, order, grant)
        for group in groups:
            command = self._entrypoint(run, group)
            run.containers[f"step-{group[0]}"] = Container(
                f"step-{group[0]}", command, run.root, {**IMAGE_ENVIRONMENT, "POD": order.job}
            )
        run.containers = {"step-ctl": self._step_ctl(run), **run.containers}
        self.runs.append(run)
        return run

    async def tell_ended(self, run: PodRun, outcome: str, reason: str, message: str) -> None:
        """As the controller does, of a pod whose status says why."""
        order = run.order
        fact = AttemptEnded.model_validate(
            {
                "tenant": order.tenant,
                "job": order.job,
                "epoch": order.epoch,
                "at_unix_ns": time.time_ns(),
                "outcome": outcome,
                "reason": reason,
                "message": message,
            }
        )
        subject = Evt(order.tenant, order.job, order.epoch, fact.token())
        await self.hub.bus.publish(subject, encode(fact), expect_seq=0)

    def _step_ctl(self, run: PodRun) -> Container:
        arguments = ["--pod", str(run.directory), "--attempt", str(run.root / "own" / "attempt.json")]
        command = [sys.executable, "-P", "-m", "runner.step_ctl", *arguments]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "POD": run.order.job}
        return Container("step-ctl", command, run.root, environment)

    def _entrypoint(self, run: PodRun, group: tuple[int, ...]) -> list[str]:
        numbers = [f"{number:03d}" for number in group]
        return [str(binary()), "run", "--tee", "--plan", str(run.root / "plan"), str(run.directory), *numbers]


def write_secret(root: Path, order: Order, grant: Grant) -> None:
    """A secret's files where its volumes would have them, and an empty volume."""
    directory = AttemptDir(root / "job")
    for path in (directory.root, root / "plan", root / "own"):
        path.mkdir(parents=True)
    directory.root.chmod(0o777)
    for name, data in planned(grant.spec, order, directory).items():
        (root / "plan" / name).write_bytes(data)
    now = time.time_ns()
    assignment = Assignment(
        grant=grant,
        cluster=order.cluster,
        machine=order.target,
        nonce=random_id(),
        on_lost=order.on_lost,
        fence_seconds=order.fence_seconds,
        timeout_seconds=order.timeout_seconds,
        accepted_unix_ns=now,
        entrypoint=binary(),
        helper_env={"PATH": os.environ["PATH"]},
    )
    (root / "own" / "attempt.json").write_bytes(encode(assignment))


def planned(spec: JobSpec, order: Order, directory: AttemptDir) -> dict[str, bytes]:
    whose = Whose(order.tenant, order.job, order.epoch)
    fenced = order.on_lost == "rerun-fenced"
    fence = Fence(directory.contact, None, order.fence_seconds) if fenced else None
    return plans(layout(spec, whose, LayoutPlace(directory, {}, grace_ms=round(GRACE_SECONDS * 1000), fence=fence)))


@asynccontextmanager
async def pod_place(server: BusServer, directory: Path) -> AsyncIterator[PodPlace]:
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, directory) as hub,
    ):
        place = PodPlace(hub, directory)
        try:
            yield place
        finally:
            for run in place.runs:
                await run.kill()
