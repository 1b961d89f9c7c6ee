"""Keeps one attempt that is laid out: its entrypoints and its step-ctl, until all is told and the directory can go."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from runner.agent.cgroups import Cgroups
from runner.agent.disposal import clear
from runner.agent.model import Key, Local
from runner.agent.processes import Process, entrypoint_command, find_entrypoint, kill_steps, start
from runner.agent.tellers import Tellers, find_teller
from runner.protocol.directory import AttemptDir, read_whole, write_once, write_whole
from runner.protocol.words import CancelWord
from shared.crash_points import crash_point
from shared.needs import Needs

log = structlog.get_logger()

MAX_STARTS = 3
SHORT_LIFE_SECONDS = 10.0
"""A step-ctl that ends sooner counts as one that could not be brought up."""
RETRY_SECONDS = (0.2, 1.0, 5.0, 30.0)
KILL_EXTRA_SECONDS = 15.0
"""Past the grace after which whoever should have ended an attempt is itself ended."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every custody of an agent works with."""

    entrypoint: Path
    guard: tuple[str, ...]
    """Words before an entrypoint's command that make it die with the agent; none when it should survive."""
    guard_fds: tuple[int, ...]
    tellers: Tellers
    cgroups: Cgroups
    grace_seconds: float
    keep_untold_seconds: float
    changed: Callable[[], None]
    give_up: Callable[[Key, str], Awaitable[None]]
    """Tells the hub that an attempt's step-ctl can't be brought up."""


class Custody:
    """Of one attempt. `run` returns when nothing needs the directory any more."""

    def __init__(
        self, key: Key, needs: Needs, directory: AttemptDir, groups: Sequence[tuple[int, ...]], means: Means
    ) -> None:
        self.key = key
        self.needs = needs
        self.directory = directory
        self._groups = groups
        self._means = means
        self._running: dict[tuple[int, ...], Process] = {}
        self._over = asyncio.Event()
        self._forsaken: str | None = None
        self._ender: asyncio.TimerHandle | None = None

    @property
    def local(self) -> Local:
        return Local(
            self.key,
            self.needs,
            "finishing" if self._over.is_set() else "running",
            ending=self.directory.cancel.exists(),
            held=self.directory.hold.exists(),
        )

    def begin(self) -> None:
        """Start the entrypoints of a fresh attempt now; `run` takes them over. Raises OSError, and none is left."""
        try:
            for group in self._groups:
                self._running[group] = self._start(group)
        except OSError:
            self._kill()
            raise

    def forsake(self, why: str) -> None:
        """Nothing of it is begun or gone on with: `run` tells what had ended, and `why` of the rest."""
        self._forsaken = why

    async def run(self) -> None:
        if self.directory.cancel.exists():
            self._end_later()
        async with asyncio.TaskGroup() as tasks:
            teller = tasks.create_task(self._keep_teller())
            await self._keep_entrypoints()
            self._over.set()
            self._means.changed()
            await teller
        if self._ender is not None:
            self._ender.cancel()

    # What orders ask for

    def end(self, word: CancelWord) -> None:
        if self.directory.end(word):
            log.info("attempt_ending", job=self.key.job, epoch=self.key.epoch, word=word)
        self._end_later()

    def hold(self) -> None:
        write_once(self.directory.hold, b"hold\n")

    def release(self) -> None:
        self.directory.hold.unlink(missing_ok=True)

    def stop(self) -> None:
        """The machine goes: end what runs, without a word that would make it somebody's wish."""
        for process in self._running.values():
            process.signal(signal.SIGTERM)
        self._end_later()

    def _end_later(self) -> None:
        if self._ender is None:
            delay = self._means.grace_seconds + KILL_EXTRA_SECONDS
            self._ender = asyncio.get_running_loop().call_later(delay, self._kill)

    def _kill(self) -> None:
        for process in self._running.values():
            process.signal(signal.SIGKILL)

    # Entrypoints

    async def _keep_entrypoints(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for group in self._groups:
                tasks.create_task(self._keep_group(group))

    async def _keep_group(self, group: tuple[int, ...]) -> None:
        for _ in range(MAX_STARTS):
            if self._all_ended(group) and self._posted_on(group):
                return
            if self._forsaken is not None:
                break
            process = self._running.get(group) or find_entrypoint(self.directory.root, group)
            if process is None:
                if self._unknown(group):
                    break
                process = self._start(group)
            self._running[group] = process
            code = await process.gone()
            del self._running[group]
            if self._all_ended(group) and (code == 0 or self._posted_on(group)):
                return
            log.warning("entrypoint_gone", job=self.key.job, epoch=self.key.epoch, steps=list(group), exit_code=code)
            if self._unknown(group):
                break
        await self._give_up(group)

    def _start(self, group: tuple[int, ...]) -> Process:
        command = [*self._means.guard, *entrypoint_command(self._means.entrypoint, self.directory.root, group)]
        return start(command, self.directory.root, self.directory.root / "entrypoint.err", self._means.guard_fds)

    def _all_ended(self, group: tuple[int, ...]) -> bool:
        return all(read_whole(self.directory.step(number, "exit")) for number in group)

    def _posted_on(self, group: tuple[int, ...]) -> bool:
        """Whether what follows these steps may know that they ended: an entrypoint may die between the two. Started
        again it runs nothing and posts.
        """
        if read_whole(self.directory.finish):
            return True
        following = group[-1] + 1
        last = following > max(number for each in self._groups for number in each)
        return not last and (self.directory.go(following).exists() or self.directory.cancel.exists())

    def _unknown(self, group: tuple[int, ...]) -> list[int]:
        """Steps that were begun and nobody can say how they ended."""
        return [
            number
            for number in group
            if self.directory.step(number, "started").exists() and not read_whole(self.directory.step(number, "exit"))
        ]

    async def _give_up(self, group: tuple[int, ...]) -> None:
        """No process will end these steps: say so, and leave nothing of them running."""
        crash_point("agent.after-loss-before-killing")
        await self._kill_left(group)
        await self._note_lost(group)
        for other, process in self._running.items():
            if other != group:
                process.signal(signal.SIGTERM)
        self._end_later()

    async def _kill_left(self, steps: Sequence[int]) -> None:
        """What runs of these steps though no entrypoint is there for it."""
        self._means.cgroups.kill(self.directory.root.name, steps)
        await asyncio.to_thread(kill_steps, self.directory.work, steps)

    async def _note_lost(self, group: tuple[int, ...]) -> None:
        self.directory.lost(0).parent.mkdir(exist_ok=True)
        unknown = self._unknown(group)
        for number in group:
            if read_whole(self.directory.step(number, "exit")):
                continue
            how = "was started and nobody knows how it ended" if number in unknown else "was not begun"
            why = self._forsaken or f"the process meant to run step {number} is gone"
            note = f"{why}; step {number} {how}\n".encode()
            try:
                write_whole(self.directory.lost(number), note)
            except OSError as error:
                log.warning("lost_not_noted", job=self.key.job, step=number, why=str(error))
                # An attempt that lost a step stores no artifact: what it worked on may make room.
                await asyncio.to_thread(clear, self.directory.work)
                write_whole(self.directory.lost(number), note)

    async def abandon(self) -> None:
        """The machine keeps us from keeping this attempt: end it, by force in the end, and leave nothing running."""
        if self._ender is not None:
            self._ender.cancel()
        try:
            self.directory.end("stale")
            async with asyncio.timeout(self._means.grace_seconds + KILL_EXTRA_SECONDS):
                await asyncio.gather(*(process.gone() for process in self._running.values()))
        except (OSError, TimeoutError) as error:
            log.warning("attempt_not_ended", job=self.key.job, why=str(error))
        self._kill()
        for group in self._groups:
            await self._kill_left(group)
            try:
                await self._note_lost(group)
            except OSError as error:
                log.warning("lost_not_noted", job=self.key.job, steps=list(group), why=str(error))

    # Step-ctl

    async def _keep_teller(self) -> None:
        failures = 0
        born = time.time()
        while not self._told():
            process = find_teller(self.directory) or self._means.tellers.start(self.directory)
            crash_point("agent.after-step-ctl")
            began = time.monotonic()
            code = await process.gone()
            self._means.tellers.ended(process)
            if self._told():
                return
            failures = failures + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS else 1
            log.warning("step_ctl_gone", job=self.key.job, epoch=self.key.epoch, exit_code=code, failures=failures)
            if failures == MAX_STARTS:
                self.end("stale")
                await self._over.wait()  # the end is told when nothing runs any more: the job may begin elsewhere then
                await self._means.give_up(self.key, f"step-ctl ended {failures} times in a row, last with {code}")
            if time.time() - born > self._means.keep_untold_seconds:
                log.error(
                    "attempt_never_told", job=self.key.job, epoch=self.key.epoch, directory=str(self.directory.root)
                )
                return
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])

    def _told(self) -> bool:
        return read_whole(self.directory.told) is not None
