"""A container runtime of a test's own; and a place of the behaviour suite whose agent uses it."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deploy.docker import builder
from deploy.docker.oci import Image, archive
from runner.containers.runtime import ContainerRuntime
from shared.needs import Needs
from tests.behaviour.machine import HubRun, MachinePlace, drained, machine_place, processes_of
from tests.behaviour.place import MEMORY_BYTES
from tests.conftest import BusServer
from tests.integration.runner.hub import AgentProcess
from tests.integration.runner.waiting import until_gone
from tests.node.runtime import BUSYBOX, busybox


class Store(Protocol):
    """Images and containers of one runtime, apart from the machine's; both its commands speak Docker's words."""

    home: Path
    step_ctl: str

    @property
    def command(self) -> list[str]: ...

    @property
    def runtime(self) -> ContainerRuntime:
        """The adapter under test."""
        ...

    def settings(self, network: str = "none") -> dict[str, str]:
        """Of an agent that uses it."""
        ...

    def call(self, *words: str) -> str: ...


def called(command: list[str], *words: str) -> str:
    told = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{command[0]} {' '.join(words)}: {told.stderr}"
    return told.stdout


def fill(store: Store) -> str:
    """The images of steps and of step-ctl. Returns the latter's name."""
    image = builder.image("step-ctl")
    for each in (image, steps_image(store.home / "busybox")):
        file = store.home / "image.tar"
        archive(each, file)
        store.call("load", "--quiet", "--input", str(file))
        file.unlink()
    return image.name


def steps_image(root: Path) -> Image:
    """busybox, with a shell that dies of each signal: busybox's own outlives SIGQUIT."""
    image = busybox(root)
    (root / "bin/sh").unlink()
    dash = Path(shutil.which("dash") or "/bin/dash").resolve()
    shutil.copy(dash, root / "bin/sh")
    told = subprocess.run(["ldd", str(dash)], capture_output=True, text=True, check=True).stdout
    for word in told.split():
        if word.startswith("/"):
            (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(word).resolve(), root / word[1:])
    return image


def common_settings(store: Store, network: str) -> dict[str, str]:
    return {
        "OVERSPILL_AGENT_STEP_CTL_IMAGE": store.step_ctl,
        "OVERSPILL_AGENT_DEFAULT_IMAGE": BUSYBOX,
        "OVERSPILL_AGENT_NETWORK": network,
        "OVERSPILL_AGENT_OBEY_SECONDS": "10",
    }


def limit(pid: int, controller: str, file: str, *, above: int = 0) -> int:
    """Of the control group that a process is in, or of one so many levels above."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            group = Path("/sys/fs/cgroup") / controller / path.lstrip("/")
            return int(((group, *group.parents)[above] / file).read_text())
    raise AssertionError(f"{pid} has no control group of {controller}")


@dataclass
class ContainerRun(HubRun):
    agent: AgentProcess
    store: Store

    @property
    def home(self) -> Path:
        """What the agent keeps of it."""
        return self.agent.attempt(self.order)

    @property
    def directory(self) -> Path:
        return self.home / "job"

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        async with drained(self.agent):
            yield

    async def left(self) -> list[str]:
        await until_gone(self.home)
        names = self.store.call("ps", "--all", "--format", "{{.Names}}").split()
        groups = [str(path) for path in Path("/sys/fs/cgroup").glob("*/overspill/*") if self.order.job in path.name]
        return [*processes_of(self.order.job), *(name for name in names if self.order.job in name), *groups]


@dataclass
class ContainerPlace:
    machine: MachinePlace
    store: Store
    loopback: str = "127.0.0.1"

    @property
    def hub(self) -> Any:
        return self.machine.hub

    @property
    def agent(self) -> AgentProcess:
        return self.machine.agent

    async def submit(self, spec: dict[str, Any], *, timeout_seconds: float = 600.0) -> ContainerRun:
        order = await self.hub.order(spec, self.agent.machine, timeout_seconds=timeout_seconds)
        return ContainerRun(self.hub, order, self.agent, self.store)

    async def submit_small(self, spec: dict[str, Any]) -> ContainerRun:
        needs = Needs(cpu_millis=1000, memory_bytes=MEMORY_BYTES, disk_bytes=2**20)
        order = await self.hub.order(spec, self.agent.machine, needs=needs)
        return ContainerRun(self.hub, order, self.agent, self.store)

    def containers(self, job: str) -> dict[str, int]:
        """Process 1 of each that runs, but for what holds the job's namespaces."""
        names = self.store.call("ps", "--format", "{{.Names}}").split()
        ours = [name for name in names if job in name and "-step" in name]
        return {name: int(self.store.call("inspect", "--format", "{{.State.Pid}}", name)) for name in ours}


@asynccontextmanager
async def container_place(server: BusServer, directory: Path, store: Store) -> AsyncIterator[ContainerPlace]:
    async with machine_place(server, directory, **store.settings()) as machine:
        yield ContainerPlace(machine, store)
