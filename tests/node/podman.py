"""podman for an agent, with a store of its own; and a place of the behaviour suite whose agent uses it."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.docker import builder
from deploy.docker.oci import Image, archive
from shared.needs import Needs
from tests.behaviour.machine import HubRun, MachinePlace, machine_place, processes_of
from tests.behaviour.place import MEMORY_BYTES
from tests.conftest import BusServer
from tests.integration.runner.hub import AgentProcess
from tests.integration.runner.waiting import until_gone
from tests.kube.assets import ensure_packages
from tests.node.runtime import BUSYBOX, busybox

PACKAGES = ("podman", "catatonit", "netavark", "runc", "busybox-static")
_RUNC = """#!/usr/bin/python3 -SEs
# Who may not raise limits is refused by runc: the containers' are as this process has them.
import json, os, sys
words = sys.argv[1:]
if "create" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"].pop("rlimits", None)
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *words])
"""


@dataclass
class PodmanStore:
    home: Path
    step_ctl: str = ""

    @property
    def command(self) -> list[str]:
        home = self.home
        where = ["--root", str(home / "store"), "--runroot", str(home / "run"), "--runtime", str(home / "runc")]
        return ["podman", *where, "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

    def call(self, *words: str) -> str:
        told = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        assert told.returncode == 0, f"podman {' '.join(words)}: {told.stderr}"
        return told.stdout

    def add(self, image: Image) -> None:
        file = self.home / "image.tar"
        archive(image, file)
        self.call("load", "--quiet", "--input", str(file))
        file.unlink()

    def settings(self) -> dict[str, str]:
        """Of an agent that uses it."""
        return {
            "OVERSPILL_AGENT_ISOLATION": "podman",
            "OVERSPILL_AGENT_PODMAN": json.dumps(self.command),
            "OVERSPILL_AGENT_STEP_CTL_IMAGE": self.step_ctl,
            "OVERSPILL_AGENT_DEFAULT_IMAGE": BUSYBOX,
            "OVERSPILL_AGENT_NETWORK": "none",
            "OVERSPILL_AGENT_OBEY_SECONDS": "10",
        }


@contextmanager
def store(home: Path) -> Iterator[PodmanStore]:
    ensure_packages(PACKAGES)
    made = PodmanStore(home)
    (home / "runc").write_text(_RUNC)
    (home / "runc").chmod(0o755)
    image = builder.image("step-ctl")
    made.step_ctl = image.name
    made.add(image)
    made.add(busybox(home / "busybox"))
    try:
        yield made
    finally:
        made.call("pod", "rm", "--all", "--force", "--time", "0")
        made.call("rm", "--all", "--force", "--time", "0")
        subprocess.run(["umount", "--lazy", str(home / "store" / "overlay")], capture_output=True, check=False)
        for name in ("store", "run", "busybox"):
            shutil.rmtree(home / name, ignore_errors=True)


@dataclass
class ContainerRun(HubRun):
    agent: AgentProcess
    podman: PodmanStore

    @property
    def home(self) -> Path:
        """What the agent keeps of it."""
        return self.agent.attempt(self.order)

    @property
    def directory(self) -> Path:
        return self.home / "job"

    async def left(self) -> list[str]:
        await until_gone(self.home)
        names = self.podman.call("ps", "--all", "--format", "{{.Names}}").split()
        return [*processes_of(self.order.job), *(name for name in names if self.order.job in name)]


@dataclass
class ContainerPlace:
    machine: MachinePlace
    podman: PodmanStore

    @property
    def hub(self) -> Any:
        return self.machine.hub

    @property
    def agent(self) -> AgentProcess:
        return self.machine.agent

    async def submit(self, spec: dict[str, Any], *, timeout_seconds: float = 600.0) -> ContainerRun:
        order = await self.hub.order(spec, self.agent.machine, timeout_seconds=timeout_seconds)
        return ContainerRun(self.hub, order, self.agent, self.podman)

    async def submit_small(self, spec: dict[str, Any]) -> ContainerRun:
        needs = Needs(cpu_millis=1000, memory_bytes=MEMORY_BYTES, disk_bytes=2**20)
        order = await self.hub.order(spec, self.agent.machine, needs=needs)
        return ContainerRun(self.hub, order, self.agent, self.podman)


@asynccontextmanager
async def container_place(server: BusServer, directory: Path, podman: PodmanStore) -> AsyncIterator[ContainerPlace]:
    async with machine_place(server, directory, **podman.settings()) as machine:
        yield ContainerPlace(machine, podman)
