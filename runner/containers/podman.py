"""podman by its command line: it has no daemon that could be gone, and needs none to be restarted."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from runner.containers.model import Container, Exited, Group, Limits, Running
from runner.containers.runtime import ImageNotPulled, NotStarted, RuntimeGone

LABEL = "overspill.dev"
OWNER, ATTEMPT, GROUP = f"{LABEL}/owner", f"{LABEL}/attempt", f"{LABEL}/group"
CALL_SECONDS = 120.0
PULL_SECONDS = 1800.0
ERRORS_LIMIT = "1mb"
_STATE = "{{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.ExitCode}} {{.State.OOMKilled}}"


@dataclass(frozen=True, slots=True)
class Told:
    code: int
    out: str
    errors: str

    @property
    def why(self) -> str:
        """One line for a person."""
        lines = [line.removeprefix("Error: ") for line in self.errors.splitlines() if line.strip()]
        return " ".join(lines[-1].split()) if lines else f"podman exited with {self.code}"


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
        self._command = tuple(command)

    async def pull(self, image: str) -> None:
        name = whole_name(image)
        if (await self._call("image", "exists", name)).code == 0:
            return
        told = await self._call("pull", "--quiet", name, seconds=PULL_SECONDS)
        if told.code != 0:
            raise ImageNotPulled(image=image, why=told.why)

    async def make(self, group: Group) -> None:
        if (await self._call("pod", "exists", group.name)).code == 0:
            return
        shares = "ipc,uts" if group.network == "host" else "net,ipc,uts"
        words = ["--name", group.name, "--network", group.network, "--share", shares, "--hostname", "build"]
        told = await self._call("pod", "create", *words, *_labels(group), *_pod_limits(group.limits))
        if told.code != 0 and (await self._call("pod", "exists", group.name)).code != 0:
            raise NotStarted(name=group.name, why=told.why)

    async def start(self, container: Container) -> Running | Exited:
        state = await self._look(container.name)
        if state is None:
            told = await self._call("run", *run_words(container))
        elif state.status == "running" or (state.status == "exited" and state.code == 0):
            return _as_seen(state)
        else:
            told = await self._call("start", container.name)
        if told.code != 0:
            raise NotStarted(name=container.name, why=told.why)
        state = await self._look(container.name)
        if state is None:
            raise NotStarted(name=container.name, why="somebody removed it")
        return _as_seen(state)

    async def exited(self, container: Container) -> Exited:
        await self._call("wait", container.name)  # its state follows its process by an instant
        state = await self._look(container.name)
        if state is None:
            raise NotStarted(name=container.name, why="somebody removed it")
        return Exited(state.code, state.out_of_memory)

    async def groups(self, owner: str) -> dict[str, str]:
        told = await self._call("ps", "--all", "--filter", f"label={OWNER}={owner}", "--format", "json")
        if told.code != 0:
            raise RuntimeGone(why=told.why)
        labels = [each.get("Labels") or {} for each in json.loads(told.out or "[]")]
        return {each[GROUP]: each.get(ATTEMPT, "") for each in labels if GROUP in each}

    async def remove(self, group: str) -> None:
        if (await self._call("pod", "exists", group)).code == 0:
            await self._done("pod", "rm", "--force", "--time", "0", group)
        told = await self._call("ps", "--all", "--quiet", "--filter", f"label={GROUP}={group}")
        if told.code != 0:
            raise RuntimeGone(why=told.why)
        if told.out.split():
            await self._done("rm", "--force", "--time", "0", "--volumes", *told.out.split())

    async def _done(self, *words: str) -> None:
        told = await self._call(*words)
        if told.code != 0 and "no such" not in told.errors:
            raise RuntimeGone(why=told.why)

    async def _look(self, name: str) -> State | None:
        told = await self._call("container", "inspect", "--format", _STATE, name)
        if told.code != 0:
            if "no such" in told.errors.lower():
                return None
            raise RuntimeGone(why=told.why)
        identity, status, pid, code, killed = told.out.split()
        return State(identity, status, int(pid), int(code), killed == "true")

    async def _call(self, *words: str, seconds: float = CALL_SECONDS) -> Told:
        # Files, not pipes: a container's monitor inherits them, and a pipe would end with the container.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, *words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=errors,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise RuntimeGone(why=str(error)) from error
            try:
                async with asyncio.timeout(seconds):
                    code = await process.wait()
            except TimeoutError as error:
                raise RuntimeGone(why=f"podman {words[0]} took longer than {seconds:g} s") from error
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
            return Told(code, _text(out), _text(errors))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _as_seen(state: State) -> Running | Exited:
    if state.status == "running":
        return Running(state.pid, state.id)
    return Exited(state.code, state.out_of_memory)


def run_words(container: Container) -> list[str]:
    """All of `podman run` but the name of the program. Pure; nothing of it is secret."""
    group, limits = container.group, container.group.limits
    words = ["--detach", "--name", container.name, "--pull", "never", *_labels(group)]
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


def _labels(group: Group) -> list[str]:
    labels = {OWNER: group.owner, ATTEMPT: group.attempt, GROUP: group.name, **group.labels}
    return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]


def _pod_limits(limits: Limits) -> list[str]:
    return ["--memory", str(limits.memory_bytes), "--cpus", f"{limits.cpu_millis / 1000:g}"]


def whole_name(image: str) -> str:
    """As Kubernetes reads it: a name without a registry is Docker Hub's, one without a folder its library's."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"
