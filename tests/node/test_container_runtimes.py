"""What the agent relies on of a container runtime, of podman and of containerd. Needs root."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runner.agent.processes import hold_in
from runner.containers.containerd import Containerd, Sandbox
from runner.containers.model import Container, Exited, Group, Limits, Mount, Running
from runner.containers.podman import Podman
from runner.containers.runtime import ContainerRuntime, ImageNotPulled, NotStarted, RuntimeGone
from shared.ids import random_id
from tests.behaviour.machine import processes_of
from tests.integration.runner.waiting import until_process_gone, until_there
from tests.node import containerd
from tests.node.containerd import ContainerdStore
from tests.node.containers import Store, limit
from tests.node.runtime import BUSYBOX

WAIT = "echo on >on; until [ -e over ]; do sleep 0.02; done"
SERVE = f"while true; do nc -l -p 8080 -e echo hello; done & {WAIT}"
LIMITS = Limits(cpu_millis=500, memory_bytes=64 << 20, pids=99)


@dataclass
class Bench:
    """An agent's containers, without the agent."""

    runtime: ContainerRuntime
    home: Path
    owner: str

    def group(self, name: str = "a-1", network: str = "none") -> Group:
        return Group(f"overspill-{self.owner}-{name}", self.owner, name, network, LIMITS, {"overspill.dev/job": name})

    def container(self, script: str, name: str = "one", group: Group | None = None) -> Container:
        group = group or self.group()
        work = self.home / group.attempt
        work.mkdir(exist_ok=True)
        return Container(
            name=f"{group.name}-{name}",
            group=group,
            image=BUSYBOX,
            command=("sh", "-c", script),
            mounts=(Mount(work, "/overspill/job", read_only=False),),
            errors=self.home / f"{name}.err",
            directory="/overspill/job",
            extra_group=4711,
        )

    async def start(self, script: str, name: str = "one", group: Group | None = None) -> tuple[Container, Running]:
        container = self.container(script, name, group)
        await self.runtime.make(container.group)
        found = await self.runtime.start(container)
        assert isinstance(found, Running), found
        return container, found

    async def run(self, script: str, name: str = "one", group: Group | None = None) -> Exited:
        container = self.container(script, name, group)
        await self.runtime.make(container.group)
        return await self.end_of(container, await self.runtime.start(container))

    async def end_of(self, container: Container, found: Running | Exited) -> Exited:
        if isinstance(found, Exited):
            return found
        process = hold_in(found.pid, found.id)
        if process is not None:
            await process.gone()
        return await self.runtime.exited(container)


@pytest.fixture
async def bench(store: Store, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(store.runtime, tmp_path, random_id()[:12])
    yield made
    for group in await made.runtime.groups(made.owner):
        await made.runtime.remove(group)
    assert await made.runtime.groups(made.owner) == {}
    assert processes_of(made.owner) == []
    assert list(Path("/sys/fs/cgroup").glob(f"*/overspill/*{made.owner}*")) == []


async def test_a_container_tells_how_it_ended_and_what_it_complained_of(bench: Bench) -> None:
    container, found = await bench.start(f"echo why not >&2; {WAIT}; exit 3")
    await until_there(container.errors)
    (bench.home / "a-1/over").touch()
    assert await bench.end_of(container, found) == Exited(3, words="why not")


async def test_an_image_that_is_there_is_not_asked_for_and_one_that_is_nowhere_is_named(bench: Bench) -> None:
    await bench.runtime.pull(BUSYBOX)
    with pytest.raises(ImageNotPulled, match="localhost/nobody-has-it:1"):
        await bench.runtime.pull("localhost/nobody-has-it:1")


async def test_a_program_that_is_not_in_the_image_is_named_each_time(bench: Bench) -> None:
    missing = replace(bench.container("true"), command=("gone",))
    await bench.runtime.make(missing.group)
    for _ in range(2):
        with pytest.raises(NotStarted, match="gone"):
            await bench.runtime.start(missing)


async def test_a_call_made_again_changes_nothing(bench: Bench) -> None:
    container, found = await bench.start(WAIT)
    await bench.runtime.make(container.group)
    assert await bench.runtime.start(container) == found
    (bench.home / "a-1/over").touch()
    assert await bench.end_of(container, found) == await bench.runtime.exited(container) == Exited(0)
    assert await bench.runtime.start(container) == Exited(0)
    await bench.runtime.remove(container.group.name)
    await bench.runtime.remove(container.group.name)


async def test_a_killed_container_is_told_as_killed_and_made_anew(bench: Bench) -> None:
    container, found = await bench.start(f"[ -e /tmp/former ] && echo former >former; touch /tmp/former; {WAIT}")
    await until_there(bench.home / "a-1/on")
    os.kill(found.pid, signal.SIGKILL)
    assert await bench.end_of(container, found) == Exited(137)
    (bench.home / "a-1/over").touch()
    assert await bench.end_of(container, await bench.runtime.start(container)) == Exited(0)
    assert not (bench.home / "a-1/former").exists()


async def test_a_sandbox_that_was_killed_is_made_again(bench: Bench, store: Store) -> None:
    container, _ = await bench.start(WAIT)
    sandbox = f"{container.group.name}-sandbox"
    pid = int(store.call("inspect", "--format", "{{.State.Pid}}", sandbox))
    os.kill(pid, signal.SIGKILL)
    await until_process_gone(pid)
    assert await bench.run("true", "two") == Exited(0)


async def test_a_kill_for_memory_is_told_and_its_code_alone_is_none(bench: Bench) -> None:
    assert await bench.run("x=0123456789; while true; do x=$x$x; done") == Exited(137, out_of_memory=True)
    assert await bench.run("exit 137", "two") == Exited(137)


async def test_limits_hold_for_each_container_and_for_all_of_a_job_together(bench: Bench) -> None:
    _, found = await bench.start(WAIT)
    memory = [limit(found.pid, "memory", "memory.limit_in_bytes", above=above) for above in (0, 1)]
    quota = [limit(found.pid, "cpu", "cpu.cfs_quota_us", above=above) for above in (0, 1)]
    period = [limit(found.pid, "cpu", "cpu.cfs_period_us", above=above) for above in (0, 1)]
    assert memory == [64 << 20, 64 << 20]
    assert [of / each for of, each in zip(quota, period, strict=True)] == [0.5, 0.5]
    assert limit(found.pid, "pids", "pids.max") == 99


async def test_an_owner_sees_its_own_groups_alone_and_their_attempts(bench: Bench) -> None:
    await bench.start(WAIT)
    await bench.run("true", group=bench.group("b-2"))
    groups = {bench.group("a-1").name: "a-1", bench.group("b-2").name: "b-2"}
    assert await bench.runtime.groups(bench.owner) == groups
    assert await bench.runtime.groups("somebody-else") == {}
    await bench.runtime.remove(bench.group("a-1").name)
    assert await bench.runtime.groups(bench.owner) == {bench.group("b-2").name: "b-2"}


async def test_containers_of_a_job_share_localhost_and_memory_and_no_processes(bench: Bench) -> None:
    await bench.start(f"echo shared >/dev/shm/said; {SERVE}")
    await until_there(bench.home / "a-1/on")
    look = "until nc 127.0.0.1 8080 </dev/null >said && [ -s said ]; do sleep 0.02; done; "
    look += "cat /dev/shm/said >>said; ls -d /proc/[0-9]* | wc -l >>said"
    assert await bench.run(look, "two") == Exited(0)
    assert re.fullmatch(r"hello\nshared\n\d\n", (bench.home / "a-1/said").read_text())


async def test_jobs_on_one_bridge_reach_the_machine_and_not_each_other(bench: Bench) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"machine\n")
        await writer.drain()
        writer.close()

    one, two = bench.group("a-1", "bridge"), bench.group("b-2", "bridge")
    server = await asyncio.start_server(answer, "0.0.0.0", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await bench.start(
            f"ip -4 -o addr show eth0 | tr -s ' ' | cut -d' ' -f4 | cut -d/ -f1 >address; {SERVE}", group=one
        )
        await until_there(bench.home / "a-1/on")
        address = (bench.home / "a-1/address").read_text().strip()
        ask = f"until nc {address} 8080 </dev/null >said && [ -s said ]; do sleep 0.02; done"
        assert await bench.run(ask, "two", one) == Exited(0)
        reach = "gateway=$(ip route | grep default | cut -d' ' -f3); "
        reach += f"echo hi | nc $gateway {port} >said; nc -w 3 {address} 8080 </dev/null >>said || echo nobody >>said"
        assert await bench.run(reach, "three", two) == Exited(0)
    assert (bench.home / "a-1/said").read_text() == "hello\n"
    assert (bench.home / "b-2/said").read_text() == "machine\nnobody\n"
    assert asked == [b"hi\n"]


@pytest.mark.parametrize("make", [Podman, lambda command: Containerd(command, Sandbox(Path("/"), Path("/")))])
async def test_a_runtime_that_is_not_there_is_told_as_gone(make: type[Podman]) -> None:
    with pytest.raises(RuntimeGone, match="no-such-program"):
        await make(["/no-such-program"]).groups("me")


@pytest.mark.parametrize("store", [containerd], indirect=True, ids=["containerd"])
async def test_a_job_outlives_its_daemon_whose_silence_is_not_the_jobs_end(
    bench: Bench, store: ContainerdStore
) -> None:
    container, found = await bench.start(f"{WAIT}; exit 5")
    store.kill()
    for call in (
        bench.runtime.start(container), bench.runtime.make(container.group), bench.runtime.pull(BUSYBOX),
        bench.runtime.exited(container), bench.runtime.groups(bench.owner), bench.runtime.remove(container.group.name),
    ):  # fmt: skip
        with pytest.raises(RuntimeGone):
            await call
    (bench.home / "a-1/over").touch()
    await until_process_gone(found.pid)
    store.start()
    assert await bench.end_of(container, found) == Exited(5)


@pytest.mark.parametrize("store", [containerd], indirect=True, ids=["containerd"])
async def test_a_container_killed_with_its_shim_has_not_ended_well(bench: Bench, store: ContainerdStore) -> None:
    container, found = await bench.start(WAIT)
    shim = int(Path(f"/proc/{found.pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert str(store.home).encode() in Path(f"/proc/{shim}/cmdline").read_bytes()
    os.kill(shim, signal.SIGKILL)
    assert await bench.end_of(container, found) == Exited(137)
