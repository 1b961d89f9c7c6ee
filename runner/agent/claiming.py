"""From an order to a laid-out attempt: claim and grant at once, then files."""

import asyncio
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.agent.cgroups import Cgroups
from runner.agent.model import Key
from runner.agent.telling import HubDoor
from runner.protocol.attempt import Attempt, write_attempt
from runner.protocol.boot import boot_id
from runner.protocol.directory import AttemptDir, read_word, write_whole
from runner.protocol.layout import Fence, Place, PlannedFile, Whose, layout
from shared.bus import Bus
from shared.crash_points import crash_point
from shared.facts.attempt import Outcome
from shared.facts.order import Order
from shared.ids import random_id
from shared.lifecycle import Reason
from shared.requests import Grant
from shared.telemetry import continue_trace, span
from shared.wire import encode

ORDER_FILE = "order.json"
CLAIM_FILE = "claim"
"""What the claim is known by. It goes with the directory: a later claim of the same attempt is another one."""


def boot_ns() -> int:
    """CLOCK_BOOTTIME: monotonic, and goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Began:
    """When the claim was made."""

    unix_ns: int = field(default_factory=time.time_ns)
    boot_ns: int = field(default_factory=boot_ns)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where attempts are laid out, and what they get here."""

    cluster: str
    machine: str
    attempts: Path
    contact_file: Path
    """Where this agent notes when the hub last told it its orders: what the fence of `rerun-fenced` goes by."""
    entrypoint: Path
    environment: Mapping[str, str]
    home_files: tuple[Path, ...]
    """Absolute; copied to the same place below each fresh HOME."""
    home: Path
    grace_seconds: float
    log_limit_bytes: int


class Claims:
    """Takes attempts for this machine."""

    def __init__(self, bus: Bus, machine: Machine, cgroups: Cgroups) -> None:
        self._hub = HubDoor(bus, machine.cluster, machine.machine)
        self._machine = machine
        self._cgroups = cgroups

    async def claim(self, order: Order, *, inherited: bool = False) -> Grant:
        """Both the hub's word that the attempt is ours and what it needs. Raises ClaimedBefore, Rejected.

        `inherited`: the order stood before this agent began, so that one before it may have answered it.
        """
        directory = self._machine.attempts / Key.of(order).name
        # The intent is on disk before the claim is on the bus: a claim that meets itself is known as ours.
        directory.mkdir(exist_ok=True, mode=0o755)
        before = read_word(directory / CLAIM_FILE)
        claim = before or random_id()
        if before is None:
            write_whole(directory / CLAIM_FILE, f"{claim}\n".encode())
        write_whole(directory / ORDER_FILE, encode(order))
        crash_point("agent.after-intent-before-claim")
        about = {"cicd.worker.id": f"{order.cluster}/{order.target}", "cicd.pipeline.run.id": order.job}
        with continue_trace(order.traceparent), span("accept attempt", attributes=about):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hub.accept(order, claim, unsure=before is not None, inherited=inherited))
                granted = tasks.create_task(self._hub.grant(order))
        return granted.result()

    async def tell_ended(
        self, key: Key, outcome: Outcome, reason: Reason, message: str, step: int | None = None
    ) -> None:
        await self._hub.tell_ended(key, outcome, reason, message, step)

    def lay_out(self, order: Order, grant: Grant, began: Began) -> AttemptDir:
        """Write the attempt's files; attempt.json comes last and makes it one. Blocking. Raises Unrunnable."""
        machine, key = self._machine, Key.of(order)
        directory = AttemptDir(machine.attempts / key.name)
        numbers = range(1, len(grant.spec.steps) + 1)
        place = Place(
            directory,
            machine.environment,
            grace_ms=round(machine.grace_seconds * 1000),
            fence=Fence(machine.contact_file, began.boot_ns, order.fence_seconds)
            if order.on_lost == "rerun-fenced"
            else None,
            log_limit_bytes=machine.log_limit_bytes,
            cgroups=self._cgroups.prepare(key.name, numbers, order.needs.memory_bytes),
        )
        files = layout(grant.spec, Whose(key.tenant, key.job, key.epoch, grant.traceparent or order.traceparent), place)
        _write(directory, len(grant.spec.steps), files)
        self._fill_home(directory)
        now = time.time_ns()
        timeout_ns = round(order.timeout_seconds * 1_000_000_000)
        write_attempt(
            directory,
            Attempt(
                grant=grant,
                cluster=machine.cluster,
                machine=machine.machine,
                nonce=random_id(),
                on_lost=order.on_lost,
                fence_seconds=order.fence_seconds,
                timeout_seconds=order.timeout_seconds,
                accepted_unix_ns=began.unix_ns,
                ready_unix_ns=now if grant.spec.source == "none" else None,
                deadline_boot_ns=boot_ns() + timeout_ns,
                boot_id=boot_id(),
                entrypoint=machine.entrypoint,
                helper_env=dict(machine.environment),
            ),
        )
        return directory

    def _fill_home(self, directory: AttemptDir) -> None:
        for file in self._machine.home_files:
            if file.is_file() and file.is_relative_to(self._machine.home):
                target = directory.home / file.relative_to(self._machine.home)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)


def _write(directory: AttemptDir, steps: int, files: list[PlannedFile]) -> None:
    for path in (directory.work, directory.home, directory.tmp, directory.go(0).parent, directory.lost(0).parent):
        path.mkdir(parents=True, exist_ok=True)
    for number in range(steps + 1):
        directory.step(number).mkdir(parents=True, exist_ok=True)
    directory.reserve()
    for file in files:
        path = directory.root / file.path
        path.write_bytes(file.data)
        if file.mode != 0o644:  # noqa: PLR2004 - what the umask gives
            path.chmod(file.mode)
