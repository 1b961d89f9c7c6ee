"""podman by its command line: it has no daemon that could be gone, and needs none to be restarted."""

import json
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
    labels,
    last_words,
)
from runner.containers.model import Container, Exited, Group, Limits, Running
from runner.containers.runtime import ImageNotPulled, NotStarted, RuntimeGone

_STATE = "{{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.ExitCode}} {{.State.OOMKilled}}"
_OOM = "oom"


@dataclass(frozen=True, slots=True)
class State:
    id: str
    status: str
    pid: int
    code: int
    out_of_memory: bool


class Podman:
    """`command`: how podman is called, with the options that come before every command of it."""

    def __init__(self, command: Sequence[str] = ("podman",)) -> None:
        self._program = Program(command)

    async def pull(self, image: str) -> None:
        name = whole_name(image)
        if (await self._program.call("image", "exists", name)).code == 0:
            return
        told = await self._program.call("pull", "--quiet", name, seconds=PULL_SECONDS)
        if told.code != 0:
            raise ImageNotPulled(image=image, why=told.why)

    async def make(self, group: Group) -> None:
        name = sandbox_name(group)
        state = await self._look(name)
        if state is None:
            shares = "ipc,uts" if group.network == "host" else "net,ipc,uts"
            words = ["--name", group.name, "--infra-name", name, "--network", group.network, "--share", shares]
            words += ["--hostname", "build", *labels(group), *_pod_limits(group.limits)]
            told = await self._program.call("pod", "create", *words)
            if told.code != 0 and await self._look(name) is None:
                raise NotStarted(name=group.name, why=told.why)
        if group.network not in UNSHARED:
            await self._wall(group.name, name, state)

    async def _wall(self, pod: str, name: str, state: State | None) -> None:
        if state is None or state.status != "running":
            told = await self._program.call("pod", "start", pod)
            state = await self._look(name)
            if state is None or state.status != "running":
                raise NotStarted(name=pod, why=told.why)
        await isolate(name, state.pid)

    async def start(self, container: Container) -> Running | Exited:
        state = await self._look(container.name)
        if state is not None:
            if state.status == "running" or (state.status == "exited" and state.code == 0):
                return _as_seen(container, state)
            await self._done("rm", "--force", "--time", "0", "--volumes", container.name)
        told = await self._program.call("run", *run_words(container), directory=_fresh(_monitored(container)))
        if told.code != 0:
            raise NotStarted(name=container.name, why=told.why)
        state = await self._look(container.name)
        if state is None:
            raise NotStarted(name=container.name, why="somebody removed it")
        return _as_seen(container, state)

    async def exited(self, container: Container) -> Exited:
        await self._program.call("wait", container.name)  # its state follows its process by an instant
        state = await self._look(container.name)
        if state is None:
            raise NotStarted(name=container.name, why="somebody removed it")
        return _ended(container, state)

    async def groups(self, owner: str) -> dict[str, str]:
        told = await self._program.call("ps", "--all", "--filter", f"label={OWNER}={owner}", "--format", "json")
        if told.code != 0:
            raise RuntimeGone(why=told.why)
        labels = [each.get("Labels") or {} for each in json.loads(told.out or "[]")]
        return {each[GROUP]: each.get(ATTEMPT, "") for each in labels if GROUP in each}

    async def remove(self, group: str) -> None:
        if (await self._program.call("pod", "exists", group)).code == 0:
            await self._done("pod", "rm", "--force", "--time", "0", group)
        told = await self._program.call("ps", "--all", "--quiet", "--filter", f"label={GROUP}={group}")
        if told.code != 0:
            raise RuntimeGone(why=told.why)
        if told.out.split():
            await self._done("rm", "--force", "--time", "0", "--volumes", *told.out.split())

    async def _done(self, *words: str) -> None:
        told = await self._program.call(*words)
        if told.code != 0 and "no such" not in told.errors:
            raise RuntimeGone(why=told.why)

    async def _look(self, name: str) -> State | None:
        told = await self._program.call("container", "inspect", "--format", _STATE, name)
        if told.code != 0:
            if "no such" in told.errors.lower():
                return None
            raise RuntimeGone(why=told.why)
        identity, status, pid, code, killed = told.out.split()
        return State(identity, status, int(pid), int(code), killed == "true")


def _as_seen(container: Container, state: State) -> Running | Exited:
    return Running(state.pid, state.id) if state.status == "running" else _ended(container, state)


def _ended(container: Container, state: State) -> Exited:
    if state.code == 0:
        return Exited(0, state.out_of_memory)
    killed = state.out_of_memory or (_monitored(container) / _OOM).exists()
    return Exited(state.code, killed, last_words(container.errors, _said))


def _monitored(container: Container) -> Path:
    """The working directory of the container's monitor. Up to conmon 2.1 it notes a kill for memory there, where podman
    does not look.
    """
    return container.errors.with_suffix(".monitor")


def _fresh(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / _OOM).unlink(missing_ok=True)
    return directory


def _said(line: str) -> str:
    """Of a line of its k8s-file log: after the time, the stream and whether it is whole."""
    return line.split(" ", 3)[-1]


def run_words(container: Container) -> list[str]:
    """All of `podman run` but the name of the program. Pure; nothing of it is secret."""
    group, limits = container.group, container.group.limits
    words = ["--detach", "--name", container.name, "--pull", "never", *labels(group)]
    # The walls.
    words += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", str(limits.pids)]
    words += ["--http-proxy=false", "--systemd=false", "--image-volume", "ignore", "--no-healthcheck"]
    if container.apart:
        words += ["--network", "host", "--read-only", "--read-only-tmpfs=false"]
    else:
        words += ["--pod", group.name, "--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)]
        words += ["--cpus", f"{limits.cpu_millis / 1000:g}"]
    words += ["--group-add", str(container.extra_group), "--workdir", container.directory]
    words += [
        "--log-driver",
        "k8s-file",
        "--log-opt",
        f"path={container.errors}",
        "--log-opt",
        f"max-size={ERRORS_LIMIT}",
    ]
    for mount in container.mounts:
        access = ",ro=true" if mount.read_only else ""
        words += ["--mount", f"type=bind,source={mount.source},target={mount.target}{access}"]
    if container.own_command:
        return [*words, "--entrypoint", container.command[0], whole_name(container.image), *container.command[1:]]
    return [*words, whole_name(container.image), *container.command]


def sandbox_name(group: Group) -> str:
    """Of the container that holds a pod's namespaces."""
    return f"{group.name}-sandbox"


def _pod_limits(limits: Limits) -> list[str]:
    return ["--memory", str(limits.memory_bytes), "--cpus", f"{limits.cpu_millis / 1000:g}"]


def whole_name(image: str) -> str:
    """As Kubernetes reads it: a name without a registry is Docker Hub's, one without a folder its library's."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"
