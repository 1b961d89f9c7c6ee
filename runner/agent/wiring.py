"""The agent's process, top to bottom."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from runner.agent.agent import Agent
from runner.agent.cgroups import Cgroups, NoCgroups, find_cgroups
from runner.agent.claiming import Claims, Machine, boot_ns
from runner.agent.custody import Means
from runner.agent.environment import machine_environment
from runner.agent.machine import architecture, capacity
from runner.agent.model import Key
from runner.agent.orders import all_orders
from runner.agent.processes import GUARD_EXTRA_MS
from runner.agent.settings import Settings
from runner.agent.site import Processes, Site
from runner.agent.tellers import Tellers
from runner.containers.containerd import Containerd, Sandbox
from runner.containers.custody import Means as ContainerMeans
from runner.containers.laying import Laying
from runner.containers.podman import Podman
from runner.containers.runtime import ContainerRuntime
from runner.containers.shape import Images, Walls
from runner.containers.site import Containers
from runner.controller.policy import Ending
from runner.entrypoint.build import binary
from runner.protocol.directory import PROTOCOL, AttemptDir, write_whole
from shared.backoff import until_available
from shared.bus import Bus
from shared.errors import OverspillError, Poison, Unavailable
from shared.facts.machine import MachineBeat
from shared.facts.order import Order
from shared.flow import Beat, DesiredAt, Edge
from shared.ids import random_id, token_from
from shared.lifecycle import Reason
from shared.needs import Capacity
from shared.version import VERSION
from shared.wire import decode, encode

log = structlog.get_logger()

UNANSWERED_SECONDS = 0.3
"""Until the orders are asked for again when nobody answered: a hub that starts finds its machines at once."""
STOP_SECONDS = 20.0
"""Past the grace: for step-ctl to tell how stopped attempts ended."""


class DataInUse(OverspillError):
    """Another agent works in {directory}; give each its own OVERSPILL_AGENT_DATA."""

    code = "data_in_use"


class NoContainers(OverspillError):
    """OVERSPILL_AGENT_ISOLATION={isolation} can't be here: {why}."""

    code = "no_containers"


async def serve(settings: Settings, bus: Bus, ready: asyncio.Event) -> None:
    """Runs until cancelled; then drains. Raises DataInUse, NoCompiler, NoContainers."""
    check_isolation(settings)
    settings.data.mkdir(parents=True, exist_ok=True)
    with _sole_user(settings.data), _lifeline() as lifeline:
        changed = asyncio.Event()
        room = capacity(settings)
        claims, site = _wire(settings, bus, changed, lifeline)
        agent = Agent(claims, site, AttemptDir(settings.data / "attempts"), room, changed)
        try:
            await _until_drained(Station(settings, bus, agent, room, ready))
        finally:
            site.close()


def _wire(settings: Settings, bus: Bus, changed: asyncio.Event, lifeline: int) -> tuple[Claims, Site]:
    in_containers = settings.isolation != "process"
    cgroups = NoCgroups() if in_containers else find_cgroups(token_from(str(settings.data.resolve())))
    claims = Claims(bus, _machine(settings), cgroups)
    if in_containers:
        return claims, _containers(settings, claims, changed)
    return claims, _processes(settings, claims, cgroups, changed, lifeline)


def _machine(settings: Settings) -> Machine:
    home = Path.home()
    return Machine(
        cluster=settings.cluster,
        machine=settings.machine,
        attempts=(settings.data / "attempts").resolve(),
        contact_file=(settings.data / "contact").resolve(),
        entrypoint=binary(),
        environment=machine_environment(os.environ, settings.pass_env, home),
        home_files=tuple(home / name for name in settings.home_files),
        home=home,
        grace_seconds=settings.grace_seconds,
        log_limit_bytes=settings.log_limit_bytes,
    )


def _containers(settings: Settings, claims: Claims, changed: asyncio.Event) -> Site:
    data = settings.data.resolve()

    async def tell_ended(key: Key, ending: Ending) -> None:
        await claims.tell_ended(key, ending.outcome, ending.reason, ending.message, ending.step)

    laying = Laying(
        cluster=settings.cluster,
        machine=settings.machine,
        attempts=data / "attempts",
        environment=settings.environment,
        grace_seconds=settings.grace_seconds,
        log_limit_bytes=settings.log_limit_bytes,
    )
    return Containers(
        owner=hashlib.sha256(os.fsencode(data)).hexdigest()[:12],
        entrypoint=binary(),
        laying=laying,
        images=Images(settings.step_ctl_image, settings.default_image),
        walls=Walls(settings.network, settings.pids_limit, settings.container_limit),
        means=ContainerMeans(
            runtime=_runtime(settings, data),
            grace_seconds=settings.grace_seconds,
            obey_seconds=settings.obey_seconds,
            keep_untold_seconds=settings.keep_untold_seconds,
            changed=changed.set,
            tell_ended=tell_ended,
        ),
    )


def _runtime(settings: Settings, data: Path) -> ContainerRuntime:
    if settings.isolation == "podman":
        return Podman(settings.podman)
    root = data / "sandbox"
    root.mkdir(exist_ok=True)
    return Containerd(settings.containerd, Sandbox(root, binary()))


def check_isolation(settings: Settings) -> None:
    """Before anything is taken on. Raises NoContainers."""
    if settings.isolation == "process":
        return
    program = (settings.podman if settings.isolation == "podman" else settings.containerd)[0]
    if shutil.which(program) is None:
        raise NoContainers(isolation=settings.isolation, why=f"there is no program {program}; install it, or say where")
    if os.geteuid() != 0:
        raise NoContainers(isolation=settings.isolation, why="the agent has to run as root")


def _processes(settings: Settings, claims: Claims, cgroups: Cgroups, changed: asyncio.Event, lifeline: int) -> Site:
    entrypoint = binary()
    options = ("--die-with-parent",) if settings.die_with_parent else ()
    tellers = Tellers(settings.spares, settings.data / "step-ctl.log", options)
    grace_ms = round(settings.grace_seconds * 1000) + GUARD_EXTRA_MS
    guard = (str(entrypoint), "guard", "--lifeline", str(lifeline), "--grace", str(grace_ms), "--")

    async def give_up(key: Key, why: str) -> None:
        await claims.tell_ended(key, "error", Reason.SETUP_FAILED, why)

    means = Means(
        entrypoint=entrypoint,
        guard=guard if settings.die_with_parent else (),
        guard_fds=(lifeline,) if settings.die_with_parent else (),
        tellers=tellers,
        cgroups=cgroups,
        grace_seconds=settings.grace_seconds,
        keep_untold_seconds=settings.keep_untold_seconds,
        changed=changed.set,
        give_up=give_up,
    )
    tellers.fill()
    return Processes(claims, means)


async def _until_drained(station: "Station") -> None:
    """Work until cancelled, then let running attempts end, then end them."""
    working = asyncio.create_task(station.work())
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        if working.done():
            raise
        await station.drain()
        raise
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


class Station:
    """The agent's loops."""

    def __init__(self, settings: Settings, bus: Bus, agent: Agent, room: Capacity, ready: asyncio.Event) -> None:
        self._settings = settings
        self._bus = bus
        self._agent = agent
        self._room = room
        self._ready = ready
        self._session = random_id()
        self._ask = asyncio.Event()
        self._beat = asyncio.Event()
        self._emptied = asyncio.Event()
        self._contact_ns: int | None = None
        """When orders were asked for that are not acted on yet."""

    async def work(self) -> None:
        self._bus.on_reconnect(self._ask.set)
        async with asyncio.TaskGroup() as tasks:
            self._agent.adopt(tasks)
            tasks.create_task(self._listen())
            tasks.create_task(self._ask_orders())
            tasks.create_task(self._beat_on())
            while True:
                self._agent.changed.clear()
                if self._agent.reconcile(tasks):
                    self._note_contact()
                if self._agent.idle:
                    self._emptied.set()
                else:
                    self._emptied.clear()
                self._beat.set()
                await self._agent.changed.wait()

    async def drain(self) -> None:
        """No new orders; wait, then end what runs as an error of the machine; a last beat says that we are gone."""
        settings = self._settings
        self._agent.draining = True
        self._agent.changed.set()
        self._emptied.clear()
        log.info("draining", machine=settings.machine, attempts=len(self._agent.running()))
        if not await self._empty_within(settings.drain_seconds):
            self._agent.stop_all()
            if not await self._empty_within(settings.grace_seconds + STOP_SECONDS):
                log.warning("attempts_left", attempts=[f"{r.job}-{r.epoch}" for r in self._agent.running()])
        await self._send_beat(leaving=True)

    async def _empty_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._agent.idle:
                    await self._emptied.wait()
        return self._agent.idle

    async def _listen(self) -> None:
        subject = DesiredAt.filter(cluster=self._settings.cluster, target=self._settings.machine)
        async with contextlib.AsyncExitStack() as stack:
            messages = await until_available(
                "desired state", lambda: stack.enter_async_context(self._bus.listen(subject))
            )
            self._ask.set()  # what came before we listened
            async for message in messages:
                try:
                    self._agent.book.live(decode(Order, message.data), time.monotonic())
                except Poison as error:
                    log.warning("order_not_understood", subject=message.subject, why=str(error))
                self._agent.changed.set()

    async def _ask_orders(self) -> None:
        settings = self._settings
        subject = Edge(settings.cluster, settings.machine, "orders")
        answered = True
        while True:
            fence = self._agent.shortest_fence_seconds()
            pause = settings.orders_seconds if fence is None else min(settings.orders_seconds, fence / 4)
            pause = pause if answered else min(pause, UNANSWERED_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ask.wait()
            self._ask.clear()
            asked_at, contact_ns = time.monotonic(), boot_ns()
            try:
                told = await all_orders(self._bus, subject)
            except OverspillError as error:
                if answered:
                    log.info("orders_unknown", why=str(error))
                answered = False
                continue
            answered = True
            self._agent.book.told(told, asked_at)
            self._contact_ns = contact_ns
            self._agent.changed.set()

    def _note_contact(self) -> None:
        """Once what the orders ask is done, never before: were we killed in between, a fenced attempt that the hub
        wants ended would go on as if it had asked.
        """
        if self._contact_ns is None:
            return
        try:
            write_whole(self._settings.data / "contact", f"{self._contact_ns}\n".encode())
        except OSError as error:
            log.error("contact_not_noted", why=str(error))  # noqa: TRY400 - fences come the sooner, no more
        self._contact_ns = None

    async def _beat_on(self) -> None:
        while True:
            self._beat.clear()
            await self._send_beat(leaving=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.beat_seconds):
                    await self._beat.wait()

    async def _send_beat(self, *, leaving: bool) -> None:
        settings = self._settings
        beat = MachineBeat(
            cluster=settings.cluster,
            machine=settings.machine,
            pool=settings.pool,
            session=self._session,
            version=VERSION,
            protocol=PROTOCOL,
            isolation=settings.isolation,
            labels=settings.labels,
            arch=architecture(),
            allocatable=self._room,
            attempts=self._agent.running(),
            draining=self._agent.draining,
            leaving=leaving,
            beat_seconds=settings.beat_seconds,
        )
        try:
            await self._bus.notify(Beat(settings.cluster, settings.machine), encode(beat))
        except Unavailable as error:
            log.info("beat_not_sent", why=str(error))
        else:
            self._ready.set()


@contextlib.contextmanager
def _sole_user(data: Path) -> Iterator[None]:
    fd = os.open(data / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise DataInUse(directory=data) from None
    try:
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """The end of a pipe that reads EOF once this context, or this process, is over."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(write)
        os.close(read)
