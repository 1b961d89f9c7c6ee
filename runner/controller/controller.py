"""One cluster's controller while it leads: what orders and pods say, and the one place that performs effects."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress

import structlog

from runner.agent.model import Key
from runner.agent.telling import HubDoor
from runner.controller.making import Maker, NotWanted
from runner.controller.memory import Known
from runner.controller.model import FINALIZER, PodSeen
from runner.controller.pods import read
from runner.controller.policy import Claim, Delete, Effect, Ending, Reap, Rules, Tell, reconcile
from runner.controller.refusals import refusal
from shared.cancelling import apart
from shared.crash_points import crash_point
from shared.errors import NotFound, OverspillError, Poison
from shared.facts.order import Desired, Order
from shared.kube import POD, SECRET, Change, KubeApi, KubeConflict, NamespaceGoes, Resource
from shared.kube_following import Backoff, Listed, Told
from shared.run import first_error

log = structlog.get_logger()

RETRY_SECONDS = 5.0
NAMESPACE_SECONDS = 5.0
"""One that goes is looked at again after so long at most."""


class Controller:
    """`may_begin`: whether we still lead."""

    def __init__(
        self,
        api: KubeApi,
        hub: HubDoor,
        maker: Maker,
        rules: Rules,
        grace_seconds: float,
        claims_at_once: int,
        may_begin: Callable[[], bool],
    ) -> None:
        self.known = Known()
        self.changed = asyncio.Event()
        self._api, self._hub, self._maker = api, hub, maker
        self._rules, self._grace_seconds, self._may_begin = rules, grace_seconds, may_begin
        self._room = asyncio.Semaphore(claims_at_once)
        self._ending: set[Key] = set()
        self._walled: set[str] = set()
        self._inherited: frozenset[Key] | None = None
        """Orders that stood when we began to lead."""

    # What comes in

    def told_of_pods(self, told: Told) -> None:
        now = time.monotonic()
        match told:
            case Listed(items):
                pods = dict(self._read(items))
                for key in self.known.pods.keys() - pods.keys():
                    self.known.lose(key)
                for pod in pods.values():
                    self.known.see(pod, now)
                self.known.listed = True
            case Change("DELETED", resource):
                for key, _ in self._read([resource]):
                    self.known.lose(key)
            case Change(_, resource):
                for _, pod in self._read([resource]):
                    self.known.see(pod, now)
        self.changed.set()

    @staticmethod
    def _read(items: list[Resource]) -> Iterator[tuple[Key, PodSeen]]:
        for item in items:
            try:
                pod = read(item)
            except Poison as poison:
                log.warning("pod_ignored", why=str(poison))
            else:
                yield pod.key, pod

    def busy(self, tenant: str) -> bool:
        """Whether something of the tenant is ordered, or runs, or may: until the cluster and the hub have told all."""
        known = self.known
        if not (known.listed and known.book.complete):
            return True
        return any(key.tenant == tenant for key in (*known.pods, *known.book.orders, *known.claiming))

    # What is done

    def reconcile(self, tasks: asyncio.TaskGroup) -> None:
        now = time.monotonic()
        if self._inherited is None and self.known.book.complete:
            self._inherited = frozenset(self.known.book.orders)
        self.known.refresh(now)
        self._learn_walls(tasks)
        for effect in list(reconcile(self.known.view(self._rules, self._grace_seconds, now))):
            self._perform(effect, tasks)

    def _learn_walls(self, tasks: asyncio.TaskGroup) -> None:
        """Once a tenant: of those whose pods we found, not made."""
        for key in self._inherited or ():
            if key in self.known.pods and key in self.known.book.orders and key.tenant not in self._walled:
                self._walled.add(key.tenant)
                tasks.create_task(self._learn_walls_of(self.known.book.orders[key]))

    async def _learn_walls_of(self, order: Order) -> None:
        try:
            await self._maker.learn_walls(order)
        except OverspillError as error:
            log.info("walls_unknown", tenant=order.tenant, why=str(error)[:300])
            await asyncio.sleep(RETRY_SECONDS)
            self._walled.discard(order.tenant)

    def _perform(self, effect: Effect, tasks: asyncio.TaskGroup) -> None:
        match effect:
            case Claim(order):
                if self._inherited is not None:
                    self.known.claiming.add(Key.of(order))
                    tasks.create_task(self._claim(order))
            case Tell(key, ending):
                self.known.telling.add(key)
                tasks.create_task(self._tell(key, ending))
            case Delete(pod, why) if pod.key not in self._ending:
                self._ending.add(pod.key)
                tasks.create_task(self._end(pod, self._delete(pod, why)))
            case Reap(pod) if pod.key not in self._ending:
                self._ending.add(pod.key)
                tasks.create_task(self._end(pod, self._reap(pod)))
            case _:
                pass

    async def _claim(self, order: Order) -> None:
        key = Key.of(order)
        try:
            await self._make(order, key)
        except (OverspillError, BaseExceptionGroup) as errors:
            error = first_error(errors)
            if not isinstance(error, OverspillError):
                raise
            if isinstance(error, NotWanted):
                return
            log.warning("claim_failed", job=key.job, epoch=key.epoch, why=str(error))
            self.known.telling.add(key)
            await self._tell(key, refusal(error))
        finally:
            self.known.claiming.discard(key)
            self.changed.set()

    async def _make(self, order: Order, key: Key) -> None:
        """While its namespace goes it waits as it would for a node, and takes no room from other tenants' pods."""
        backoff, until = Backoff(), time.monotonic() + self._rules.unschedulable_seconds
        inherited = key in (self._inherited or ())
        while self._wanted(key):
            async with self._room:
                try:
                    await apart(self._maker.make(order, lambda: self._wanted(key), inherited=inherited))
                except NamespaceGoes as goes:
                    if time.monotonic() >= until:
                        raise
                    log.info("pod_waits", job=key.job, why=str(goes)[:300])
                else:
                    self.known.claimed.add(key)
                    return
            await asyncio.sleep(min(backoff.next_seconds(), NAMESPACE_SECONDS))

    def _wanted(self, key: Key) -> bool:
        order = self.known.book.orders.get(key)
        return order is not None and order.desired in (Desired.RUN, Desired.HOLD) and self._may_begin()

    async def _tell(self, key: Key, ending: Ending) -> None:
        left = None
        try:
            order = self.known.book.orders.get(key)
            if order is not None and key not in self.known.pods:
                left = await self._maker.left_by(order)  # nobody says it of what is over
            await self._hub.tell_ended(key, ending.outcome, ending.reason, ending.message, ending.step)
            self.known.told.add(key)
        finally:
            self.known.telling.discard(key)
            self.changed.set()
        if left is not None:
            await self._forget(key, left)

    async def _forget(self, key: Key, namespace: str) -> None:
        """A secret whose pod was not made in the end: who was to make it died between the two, or was told to stop."""
        try:
            await self._maker.forget(key, namespace)
        except OverspillError as error:
            log.warning("secret_stays", name=key.name, namespace=namespace, why=str(error)[:300])

    async def _end(self, pod: PodSeen, work: Coroutine[None, None, None]) -> None:
        backoff = Backoff()
        try:
            await work
        except KubeConflict:
            log.info("another_pod_of_the_name", name=pod.key.name)
        except OverspillError as error:
            # It is found to be done again.
            log.warning("pod_not_ended", name=pod.key.name, why=str(error)[:300])
            await asyncio.sleep(backoff.next_seconds(1.0))
        finally:
            self._ending.discard(pod.key)
            self.changed.set()

    async def _delete(self, pod: PodSeen, why: str) -> None:
        log.info("pod_deleted", name=pod.key.name, namespace=pod.namespace, why=why)
        await self._api.delete(POD, pod.key.name, pod.namespace, uid=pod.uid)

    async def _reap(self, pod: PodSeen) -> None:
        """The pod goes last: as long as it is there, whatever of this was not done is done again."""
        name, others = pod.key.name, [each for each in pod.finalizers if each != FINALIZER]
        await self._api.delete(SECRET, name, pod.namespace)
        crash_point("controller.after-secret-before-finalizer")
        await self._api.delete(POD, name, pod.namespace, grace_seconds=0, uid=pod.uid)
        with suppress(NotFound):  # somebody had taken our finalizer away
            await self._api.merge(
                POD, name, pod.namespace, {"metadata": {"uid": pod.uid, "finalizers": others or None}}
            )
        self.known.lose(pod.key)
        log.info("pod_reaped", name=name, namespace=pod.namespace)
