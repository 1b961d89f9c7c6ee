"""containerd by nerdctl, the command line that its project maintains for people and programs. It knows no pods, so
what containers of a group have in common is here: a sandbox holds their network, a control group their limits.
"""

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.containers.bridge import UNSHARED, isolate
from runner.containers.calling import (
    ATTEMPT,
    ERRORS_LIMIT,
    GROUP,
    OWNER,
    PULL_SECONDS,
    Program,
    Told,
    labels,
    last_words,
)
from runner.containers.limits import PARENT, GroupLimits
from runner.containers.model import Container, Exited, Group, Limits, Running
from runner.containers.runtime import ImageNotPulled, NotStarted, RuntimeGone

APART = "step-ctl"
"""The control group of what is trusted."""
_SANDBOX_PIDS = 16
_STATE = "{{.Id}} {{.State.Pid}} {{.State.ExitCode}} {{.State.Status}}"
_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What holds a group's namespaces: a program that only waits, in a file system of its own."""

    root: Path
    """An empty directory; all sandboxes share it and none writes to it."""
    program: Path
    """Of which `hold` is a command."""


@dataclass(frozen=True, slots=True)
class State:
    id: str
    pid: int
    code: int
    status: str
    """Empty when nothing is known of its process: it never ran, or its shim was killed."""


class Containerd:
    """`command`: how nerdctl is called, with the options that come before every command of it."""

    def __init__(self, command: Sequence[str], sandbox: Sandbox, limits: GroupLimits | None = None) -> None:
        # Groups' limits are directories of the control groups' own file system, which systemd would not know of.
        self._program = Program((*command, "--cgroup-manager", "cgroupfs"))
        self._sandbox = sandbox
        self._limits = limits or GroupLimits()

    async def pull(self, image: str) -> None:
        if (await self._program.call("image", "inspect", "--format", "{{.Id}}", image)).code == 0:
            return
        await self._answers()
        told = await self._program.call("pull", "--quiet", image, seconds=PULL_SECONDS)
        if told.code != 0:
            await self._answers()
            raise ImageNotPulled(image=image, why=told.why)

    async def make(self, group: Group) -> None:
        name = sandbox_name(group)
        state = await self._look(name)
        if state is None or state.status != "running":
            if state is not None:
                await self._remove([name])
            await self._run(name, sandbox_words(group, self._sandbox))
            state = await self._seen(name)
        self._limits.set(group.name, group.limits)
        if group.network not in UNSHARED:
            await isolate(name, state.pid)

    async def start(self, container: Container) -> Running | Exited:
        state = await self._look(container.name)
        if state is not None:
            if state.status == "running" or (state.status == "exited" and state.code == 0):
                return self._as_seen(container, state)
            await self._remove([container.name])
        await self._run(container.name, run_words(container))
        return self._as_seen(container, await self._seen(container.name))

    async def exited(self, container: Container) -> Exited:
        await self._program.call("wait", container.name)  # its state follows its process by an instant
        seen = self._as_seen(container, await self._seen(container.name))
        if isinstance(seen, Running):
            raise RuntimeGone(why=f"{container.name} is said to run")
        return seen

    async def groups(self, owner: str) -> dict[str, str]:
        marks = f'{{{{.Label "{GROUP}"}}}} {{{{.Label "{ATTEMPT}"}}}}'
        told = await self._program.call("ps", "--all", "--filter", f"label={OWNER}={owner}", "--format", marks)
        if told.code != 0:
            raise RuntimeGone(why=told.why)
        pairs = [line.partition(" ") for line in told.out.splitlines()]
        return {group: attempt for group, _, attempt in pairs if group}

    async def remove(self, group: str) -> None:
        told = await self._program.call("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={GROUP}={group}")
        if told.code != 0:
            raise RuntimeGone(why=told.why)
        if told.out.split():
            await self._remove(told.out.split())
        self._limits.remove(group)

    async def _run(self, name: str, words: Sequence[str]) -> None:
        told = await self._program.call("run", *words)
        if told.code != 0:
            await self._answers()
            if "already used" in told.errors:  # a former agent's call is not done with it
                raise RuntimeGone(why=told.why)
            raise NotStarted(name=name, why=told.why)

    async def _remove(self, names: Sequence[str]) -> None:
        told = await self._program.call("rm", "--force", "--volumes", *names)
        if told.code != 0 and "no such container" not in told.errors:
            raise RuntimeGone(why=told.why)

    async def _answers(self) -> None:
        """Raises RuntimeGone: what failed did so since there is no containerd."""
        told = await self._program.call("ps", "--quiet")
        if told.code != 0:
            raise RuntimeGone(why=told.why)

    async def _seen(self, name: str) -> State:
        state = await self._look(name)
        if state is None:
            raise NotStarted(name=name, why="somebody removed it")
        return state

    async def _look(self, name: str) -> State | None:
        told = await self._program.call("inspect", "--format", _STATE, name)
        if told.code != 0:
            if _is_missing(told):
                return None
            raise RuntimeGone(why=told.why)
        identity, pid, code, status = told.out.rstrip("\n").split(" ")
        return State(identity, int(pid), int(code), status)

    def _as_seen(self, container: Container, state: State) -> Running | Exited:
        if state.status == "running":
            return Running(state.pid, state.id)
        # One whose shim was killed was so, too, and has no end on record.
        code = state.code if state.status == "exited" else _KILLED
        if code == 0:
            return Exited(0)
        killed = self._limits.killed_for_memory(_cgroup(container), state.id)
        return Exited(code, killed, last_words(container.errors, _said))


def _is_missing(told: Told) -> bool:
    return "no such object" in told.errors


def _said(line: str) -> str:
    """Of a line of its json-file log."""
    try:
        return str(json.loads(line)["log"])
    except (ValueError, KeyError, TypeError):
        return line  # half a line, of one that was killed


def sandbox_name(group: Group) -> str:
    return f"{group.name}-sandbox"


def _cgroup(container: Container) -> str:
    return APART if container.apart else container.group.name


def sandbox_words(group: Group, sandbox: Sandbox) -> list[str]:
    """All of `nerdctl run` for a group's sandbox. Pure."""
    words = ["--detach", "--name", sandbox_name(group), *labels(group), *_walls(_SANDBOX_PIDS), "--read-only"]
    words += ["--network", group.network, "--ipc", "shareable", "--cgroup-parent", f"/{PARENT}/{group.name}"]
    words += ["--log-driver", "none", "--mount", f"type=bind,source={sandbox.program},target=/entrypoint,readonly"]
    return [*words, "--rootfs", str(sandbox.root), "/entrypoint", "hold"]


def run_words(container: Container) -> list[str]:
    """All of `nerdctl run` for a container. Pure; nothing of it is secret."""
    group, limits = container.group, container.group.limits
    words = ["--detach", "--name", container.name, "--pull", "never", *labels(group), *_walls(limits.pids)]
    words += ["--cgroup-parent", f"/{PARENT}/{_cgroup(container)}"]
    if container.apart:
        words += ["--network", "host", "--read-only"]
    else:
        sandbox = f"container:{sandbox_name(group)}"
        words += ["--network", "host" if group.network == "host" else sandbox, "--ipc", sandbox, *_limits(limits)]
    words += ["--group-add", str(container.extra_group), "--workdir", container.directory]
    words += ["--log-driver", "json-file", "--log-opt", f"log-path={container.errors}"]
    words += ["--log-opt", f"max-size={ERRORS_LIMIT}", "--log-opt", "max-file=1"]
    for mount in container.mounts:
        access = ",readonly" if mount.read_only else ""
        words += ["--mount", f"type=bind,source={mount.source},target={mount.target}{access}"]
    if container.own_command:
        return [*words, "--entrypoint", container.command[0], container.image, *container.command[1:]]
    return [*words, container.image, *container.command]


def _walls(pids: int) -> list[str]:
    return ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", str(pids)]


def _limits(limits: Limits) -> list[str]:
    memory = str(limits.memory_bytes)
    return ["--memory", memory, "--memory-swap", memory, "--cpus", f"{limits.cpu_millis / 1000:g}"]
