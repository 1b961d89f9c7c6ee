"""Keeps one attempt's containers, as a kubelet and a controller keep a pod's, until its step-ctl has told all."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from runner.agent.model import Key, Local
from runner.agent.processes import Process, hold_in
from runner.containers.model import Container, Exited
from runner.containers.runtime import ContainerRuntime, ImageNotPulled, NotStarted, RuntimeGone
from runner.containers.shape import JOB_FOLDER, Shape
from runner.controller.model import ContainerSeen, PodSeen, Trouble
from runner.controller.policy import Ending, ending_of
from runner.protocol.directory import AttemptDir
from runner.protocol.words import CancelWord
from shared.errors import OverspillError
from shared.lifecycle import Reason
from shared.needs import Needs

log = structlog.get_logger()

MAX_STARTS = 3
SHORT_LIFE_SECONDS = 10.0
RETRY_SECONDS = (0.2, 1.0, 5.0, 30.0)
GONE_TRIES = 10
"""So often a runtime that does not answer is asked for a container that was never there."""
GONE_SECONDS = 3.0
REMIND_SECONDS = 2.0
_KILLED = 128 + signal.SIGKILL
_ENDINGS: dict[CancelWord, Ending] = {
    "cancel": Ending("cancelled", Reason.CANCELLED, "its step-ctl did not end it in time"),
    "timeout": Ending("timed_out", Reason.TIMEOUT, "its step-ctl did not end it in time"),
    "stale": Ending("error", Reason.STALE, "this attempt is no longer wanted here"),
    "fenced": Ending("error", Reason.MACHINE_LOST, "no contact with the hub"),
}


@dataclass(frozen=True, slots=True)
class Means:
    """What every custody of an agent works with."""

    runtime: ContainerRuntime
    grace_seconds: float
    obey_seconds: float
    """Beyond the steps' grace: step-ctl hears orders itself, and has ended all by then."""
    keep_untold_seconds: float
    changed: Callable[[], None]
    tell_ended: Callable[[Key, Ending], Awaitable[None]]
    """Unless somebody told it before."""


class ContainerCustody:
    """Of one attempt. `run` returns when none of its containers is left."""

    def __init__(self, key: Key, needs: Needs, directory: AttemptDir, shape: Shape, means: Means) -> None:
        self.key = key
        self.needs = needs
        self.directory = directory
        self._shape = shape
        self._means = means
        self._running: dict[str, Process] = {}
        self._over = False
        self._held = False
        self._word: CancelWord | None = None
        self._leaving = False
        self._killing = False
        self._removing = False
        self._made = asyncio.Lock()
        self._ender: asyncio.TimerHandle | None = None
        self._kill_told = asyncio.Event()

    @property
    def local(self) -> Local:
        phase = "finishing" if self._over else "running"
        ending = self._word is not None
        return Local(self.key, self.needs, "finishing" if phase == "finishing" else "running", ending, self._held)

    def begin(self) -> None:
        """`run` does: a runtime takes its time, and is waited for."""

    def forsake(self, why: str) -> None:
        """Nothing to do here: containers that come back find that the machine was restarted, and say so."""
        log.info("attempt_of_former_boot", job=self.key.job, why=why)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            steps = [tasks.create_task(self._keep_steps(numbers)) for numbers in self._shape.steps]
            noting = tasks.create_task(self._note_over(steps))
            ending = tasks.create_task(self._tell_killed())
            await self._keep_step_ctl()
            for task in (*steps, noting, ending):
                task.cancel()
        if self._ender is not None:
            self._ender.cancel()
        self._over = self._removing = True
        self._means.changed()
        await self._remove()

    # What orders ask for: step-ctl hears it itself, and writes it down where entrypoints see it.

    def end(self, word: CancelWord) -> None:
        if self._word is None:
            self._word = word
            log.info("attempt_ending", job=self.key.job, epoch=self.key.epoch, word=word)
        self._kill_later()

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False

    def stop(self) -> None:
        self._leave()

    async def abandon(self) -> None:
        self._removing = True
        self._kill()
        await self._remove()

    def _leave(self) -> None:
        """SIGTERM for each, as a pod's containers get it that is deleted."""
        self._leaving = True
        for process in self._running.values():
            process.signal(signal.SIGTERM)
        self._kill_later()
        self._remind()

    def _remind(self) -> None:
        """A process 1 that is only starting is deaf to the signal: step-ctl is told until it is gone."""
        if self._shape.step_ctl.name in self._running:
            self._running[self._shape.step_ctl.name].signal(signal.SIGTERM)
        if not self._removing:
            asyncio.get_running_loop().call_later(REMIND_SECONDS, self._remind)

    def _kill_later(self) -> None:
        if self._ender is None:
            delay = self._means.grace_seconds + self._means.obey_seconds
            self._ender = asyncio.get_running_loop().call_later(delay, self._kill)

    def _kill(self) -> None:
        """The steps; their step-ctl goes on telling."""
        self._killing = True
        self._kill_told.set()
        for name, process in self._running.items():
            if name != self._shape.step_ctl.name:
                process.signal(signal.SIGKILL)

    async def _tell_killed(self) -> None:
        await self._kill_told.wait()
        if self._word is not None:
            await self._means.tell_ended(self.key, _ENDINGS[self._word])

    async def _note_over(self, steps: "list[asyncio.Task[None]]") -> None:
        await asyncio.wait(steps)
        self._over = True
        self._means.changed()

    # Containers

    async def _keep_steps(self, numbers: tuple[int, ...]) -> None:
        container, short = self._shape.steps[numbers], 0
        while not self._killing:
            began = time.monotonic()
            ended = await self._life(container, numbers)
            if isinstance(ended, Exited):
                if ended.code == 0:
                    return
                log.warning("container_gone", job=self.key.job, container=container.name, exit_code=ended.code)
                short = short + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS else 1
                trouble = _trouble(ended, short)
                if trouble is None:
                    await asyncio.sleep(RETRY_SECONDS[short - 1])
                    continue
            else:
                trouble = ended
            about = self._begun(numbers) or numbers if trouble[0] == "out_of_memory" else numbers
            await self._fail(container, about, *trouble)
            return

    async def _life(self, container: Container, numbers: tuple[int, ...]) -> Exited | tuple[Trouble, str]:
        """How one life of it ended, or what keeps it from having one."""
        unanswered = 0
        while True:
            try:
                return await self._once(container)
            except ImageNotPulled as error:
                return "image_pull", str(error.fields["why"])
            except NotStarted as error:
                return "bad_command", str(error.fields["why"])
            except RuntimeGone as error:
                unanswered += 1
                log.warning("runtime_gone", job=self.key.job, why=str(error))
                if unanswered >= GONE_TRIES and not self._begun(numbers):
                    return "config", str(error)
                await asyncio.sleep(GONE_SECONDS)  # nothing tells when it answers again

    async def _keep_step_ctl(self) -> None:
        """Until it says, by ending well, that all is told; or until nobody can bring it up."""
        container, born, short = self._shape.step_ctl, time.time(), 0
        while True:
            began = time.monotonic()
            try:
                ended = await self._once(container)
            except ImageNotPulled as error:
                self._kill()
                return await self._fail(container, (), "image_pull", str(error.fields["why"]))
            except (NotStarted, RuntimeGone) as error:
                why = str(error)
            else:
                if ended.code == 0:
                    return None
                why = f"it ended with {ended.code}{_after(ended.words)}"
            short = short + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS else 1
            log.warning("step_ctl_gone", job=self.key.job, epoch=self.key.epoch, why=why, failures=short)
            if short == GONE_TRIES:
                self._kill()
                await self._fail(container, (), "config", f"it could not be brought up: {why}")
            if time.time() - born > self._means.keep_untold_seconds:
                log.error("attempt_never_told", job=self.key.job, directory=str(self.directory.root))
                return None
            await asyncio.sleep(RETRY_SECONDS[min(short, len(RETRY_SECONDS)) - 1])

    async def _once(self, container: Container) -> Exited:
        """One life of it, whoever began it."""
        runtime = self._means.runtime
        await runtime.pull(container.image)
        async with self._made:
            await runtime.make(container.group)
        found = await runtime.start(container)
        if isinstance(found, Exited):
            return found
        process = hold_in(found.pid, found.id)
        if process is not None:
            self._running[container.name] = process
            if self._leaving:
                process.signal(signal.SIGTERM)
            try:
                await process.gone()
            finally:
                del self._running[container.name]
                process.close()
        return await runtime.exited(container)

    async def _fail(self, container: Container, numbers: tuple[int, ...], found: Trouble, why: str) -> None:
        """Said before anything is ended for it: else its step-ctl would only say that it was ended."""
        seen = ContainerSeen(container.name.removeprefix(f"{container.group.name}-"), "waiting", message=why)
        pod = PodSeen(
            key=self.key, namespace="", uid="", phase="Running", node=None, containers=(seen,),
            steps={seen.name: numbers}, memory_bytes=self.needs.memory_bytes,
        )  # fmt: skip
        await self._means.tell_ended(self.key, ending_of(pod, found, seen))
        self._leave()

    def _begun(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """The step that was running when its container ended. The names are looked at, never what they lead to."""
        job = AttemptDir(self.directory.root / JOB_FOLDER)
        return tuple(n for n in numbers if _named(job.step(n, "started")) and not _named(job.step(n, "exit")))

    async def _remove(self) -> None:
        while True:
            try:
                await self._means.runtime.remove(self._shape.group.name)
            except OverspillError as error:
                log.warning("containers_not_removed", job=self.key.job, why=str(error))
                await asyncio.sleep(GONE_SECONDS)  # nothing tells when it answers again
            else:
                return


def _trouble(ended: Exited, short: int) -> tuple[Trouble, str] | None:
    """None: it is started again. `short`: so many short lives it had in a row."""
    if ended.out_of_memory and ended.code == _KILLED:
        return "out_of_memory", ""
    if short < MAX_STARTS:
        return None
    return "bad_command", f"it ended {short} times in a row, last with {ended.code}{_after(ended.words)}"


def _named(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _after(words: str) -> str:
    return f": {words}" if words else ""
