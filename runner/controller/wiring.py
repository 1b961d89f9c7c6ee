"""The controller's process, top to bottom."""

import asyncio
import contextlib
import os
import time
from pathlib import Path

import structlog

from runner.agent.orders import all_orders
from runner.agent.telling import HubDoor
from runner.controller.beating import Beats
from runner.controller.controller import Controller
from runner.controller.leading import KubeLease, LeaseLost
from runner.controller.making import Maker, Site
from runner.controller.manifest import ENTRYPOINTS
from runner.controller.model import selector
from runner.controller.pods import slim
from runner.controller.policy import Rules
from runner.controller.prepulling import Keeping
from runner.controller.prepulls import Prepuller, Yard
from runner.controller.settings import Settings
from runner.controller.wall_keeping import WallKeeper
from runner.controller.walls import Surroundings
from runner.controller.walls import entrypoints as entrypoints_map
from runner.entrypoint.build import OVERRIDE, BuildFailed, NoCompiler, binary, release_binary
from shared.backoff import until_available
from shared.bus import Bus
from shared.cancelling import apart
from shared.clock import Clock, SystemClock
from shared.errors import OverspillError, Poison
from shared.facts.order import Order
from shared.flow import DesiredAt, Edge
from shared.kube import POD, KubeApi
from shared.kube_following import Selection, follow
from shared.pods import KUBE
from shared.pulse import Pulse
from shared.run import first_error
from shared.wire import decode

log = structlog.get_logger()

UNANSWERED_SECONDS = 0.3
"""Until the orders are asked for again when nobody answered: a hub that starts finds its clusters at once."""
LOOK_SECONDS = 1.0
"""Between two looks though nothing happened: some decisions hang on time alone."""
REST = 2.0
"""After a look, so many times as long as it took: thousands of pods that change at once share looks."""


async def serve(
    settings: Settings, bus: Bus, api: KubeApi, leading: asyncio.Event, pulse: Pulse, clock: Clock | None = None
) -> None:
    """Runs until cancelled. `leading` is set while this instance does what is to be done."""
    clock = clock or SystemClock()
    entrypoints = await asyncio.to_thread(_entrypoints, settings)
    lease = KubeLease(api, clock, settings.namespace, settings.identity, settings.lease_seconds)
    try:
        while True:
            await lease.stand(pulse.beat)
            try:
                await apart(Watch(settings, bus, api, entrypoints, lease, pulse, clock).lead(leading))
            except* LeaseLost:
                log.warning("lease_lost", identity=settings.identity)
            finally:
                leading.clear()
    finally:
        await lease.release()


def _entrypoints(settings: Settings) -> dict[str, bytes]:
    files: dict[str, Path] = settings.entrypoints or {settings.architecture: _entrypoint(settings.architecture)}
    return {architecture: file.read_bytes() for architecture, file in files.items()}


def _entrypoint(architecture: str) -> Path:
    """As images carry it, a tenth of what a machine's own compiler makes: it lies in each tenant's namespace."""
    try:
        return binary() if os.environ.get(OVERRIDE) else release_binary(architecture)
    except (NoCompiler, BuildFailed) as error:
        log.info("entrypoint_of_this_machine", why=str(error))
        return binary(architecture)


class Watch:
    """One stretch of leading."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        api: KubeApi,
        entrypoints: dict[str, bytes],
        lease: KubeLease,
        pulse: Pulse,
        clock: Clock,
    ) -> None:
        self._settings, self._bus, self._api, self._lease, self._clock = settings, bus, api, lease, clock
        self._pulse = pulse
        self._ask = asyncio.Event()
        around = Surroundings(platform=tuple(settings.egress))
        self._walls = WallKeeper(api, settings.cluster, around, entrypoints)
        self._beats = Beats(bus, api, clock, settings.cluster, settings.beat_seconds, settings.silence_seconds)
        self._prepuller = Prepuller(
            api,
            clock,
            Yard(
                settings.cluster,
                settings.namespace,
                settings.architecture,
                settings.prepull_node_selector,
                tuple(settings.prepull_tolerations),
                settings.prepull_priority_class,
            ),
            Keeping(images=settings.prepull_images, disk_bytes=settings.prepull_disk_bytes),
            self._beats.usage,
            self._beats.nodes,
            entrypoints_map({"name": ENTRYPOINTS, "namespace": settings.namespace}, entrypoints),
        )
        self._hub = hub = HubDoor(bus, settings.cluster, KUBE)
        site = Site(
            cluster=settings.cluster,
            step_ctl_image=settings.step_ctl_image,
            default_image=settings.default_image,
            architecture=settings.architecture,
            environment=settings.environment,
            step_ctl_environment=settings.step_ctl_environment,
            grace_seconds=settings.grace_seconds,
            log_limit_bytes=settings.log_limit_bytes,
        )
        self._controller = Controller(
            api,
            hub,
            Maker(api, hub, self._walls, site),
            Rules(
                unschedulable_seconds=settings.unschedulable_seconds,
                obey_seconds=settings.obey_seconds,
                linger_seconds=settings.linger_seconds,
                missing_seconds=settings.missing_seconds,
                vanish_seconds=settings.vanish_seconds,
                keep_seconds=settings.keep_seconds,
            ),
            settings.grace_seconds,
            settings.claims_at_once,
            lease.holds,
        )

    async def lead(self, leading: asyncio.Event) -> None:
        """Raises LeaseLost, in a group."""
        self._bus.on_reconnect(self._ask.set)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep())
            tasks.create_task(self._follow_pods())
            tasks.create_task(self._listen())
            tasks.create_task(self._ask_orders())
            tasks.create_task(self._beats.run())
            tasks.create_task(self._prepuller.run())
            tasks.create_task(self._walls.mend(self._settings.walls_seconds, self._hub.walls, self._controller.busy))
            tasks.create_task(self._look(tasks))
            leading.set()

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        changed = self._controller.changed
        while True:
            self._pulse.beat()
            changed.clear()
            began = time.monotonic()
            if self._lease.holds():
                self._controller.reconcile(tasks)
            await asyncio.sleep((time.monotonic() - began) * REST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await changed.wait()

    async def _follow_pods(self) -> None:
        async for told in follow(
            self._api, Selection(POD, labels=selector(self._settings.cluster), keep=slim), self._clock
        ):
            self._controller.told_of_pods(told)
            self._beats.told_of_own_pods(told)

    async def _listen(self) -> None:
        subject = DesiredAt.filter(cluster=self._settings.cluster, target=KUBE)
        book = self._controller.known.book
        async with contextlib.AsyncExitStack() as stack:
            messages = await until_available(
                "desired state", lambda: stack.enter_async_context(self._bus.listen(subject))
            )
            self._ask.set()  # what came before we listened
            async for message in messages:
                try:
                    book.live(decode(Order, message.data), time.monotonic())
                except Poison as error:
                    log.warning("order_not_understood", subject=message.subject, why=str(error))
                self._controller.changed.set()

    async def _ask_orders(self) -> None:
        subject = Edge(self._settings.cluster, KUBE, "orders")
        answered = True
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.orders_seconds if answered else UNANSWERED_SECONDS):
                    await self._ask.wait()
            self._ask.clear()
            asked_at = time.monotonic()
            try:
                told = await all_orders(self._bus, subject)
            except OverspillError as error:
                if answered:
                    log.info("orders_unknown", why=str(first_error(error)))
                answered = False
                continue
            answered = True
            self._controller.known.book.told(told, asked_at)
            self._controller.changed.set()
