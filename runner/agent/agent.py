"""One machine's agent: what is here, and the one place that performs effects."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from runner.agent.claiming import ORDER_FILE, Began, Claims
from runner.agent.disposal import discard, empty_all
from runner.agent.model import Claim, Decline, Effect, End, Hold, Key, Local, Refuse, Release, View
from runner.agent.orders import OrderBook
from runner.agent.policy import reconcile
from runner.agent.site import Keeping, Site
from runner.agent.telling import ClaimedBefore
from runner.protocol.attempt import NoAttempt, read_attempt
from runner.protocol.boot import of_former_boot
from runner.protocol.directory import AttemptDir, read_whole
from runner.protocol.layout import Unrunnable
from runner.protocol.words import CancelWord
from shared.cancelling import apart, heed_cancel
from shared.crash_points import crash_point
from shared.errors import OverspillError, Rejected
from shared.facts.attempt import Outcome
from shared.facts.machine import Running
from shared.facts.order import Desired, Order
from shared.lifecycle import Reason
from shared.needs import Capacity
from shared.requests import Grant
from shared.wire import decode

log = structlog.get_logger()

MAX_SETTLED = 10_000


Ending = tuple[Outcome, Reason, str]

STOPPED: Ending = ("error", Reason.EVICTED, "the machine's agent was stopped")
ENDINGS: dict[CancelWord, Ending] = {
    "cancel": ("cancelled", Reason.CANCELLED, ""),
    "timeout": ("timed_out", Reason.TIMEOUT, "it timed out before it began"),
    "stale": ("error", Reason.STALE, "this attempt is no longer wanted here"),
    "fenced": ("error", Reason.MACHINE_LOST, "no contact with the hub"),
}


@dataclass(slots=True)
class Claiming:
    """An attempt on its way in."""

    order: Order
    asking: "asyncio.Task[Grant]"
    ending: Ending | None = None
    """Set when it is not wanted any more."""

    def give_up(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self.asking.cancel()


class Agent:
    """Its state is the attempts here and the order book; everything else is asked."""

    def __init__(
        self, claims: Claims, site: Site, attempts: AttemptDir, capacity: Capacity, changed: asyncio.Event
    ) -> None:
        self.book = OrderBook()
        self.draining = False
        self.changed = changed
        self._claims = claims
        self._site = site
        self._attempts = attempts.root
        self._capacity = capacity
        self._claiming: dict[Key, Claiming] = {}
        self._custodies: dict[Key, Keeping] = {}
        self._settled: OrderedDict[Key, None] = OrderedDict()
        self._intents: set[Key] = set()
        self._inherited: frozenset[Key] | None = None
        """Orders that stood when this agent began."""

    # What is here

    def locals(self) -> tuple[Local, ...]:
        claiming = (Local(key, claiming.order.needs, "claiming") for key, claiming in self._claiming.items())
        return (*claiming, *(custody.local for custody in self._custodies.values()))

    def running(self) -> list[Running]:
        keys = sorted({*self._claiming, *self._custodies})
        return [Running(tenant=key.tenant, job=key.job, epoch=key.epoch) for key in keys]

    @property
    def idle(self) -> bool:
        return not self._claiming and not self._custodies

    def shortest_fence_seconds(self) -> float | None:
        """Of the attempts here that are fenced."""
        fences = [
            o.fence_seconds
            for o in self.book.orders.values()
            if o.on_lost == "rerun-fenced" and Key.of(o) in self._custodies
        ]
        return min(fences, default=None)

    def adopt(self, tasks: asyncio.TaskGroup) -> None:
        """Take over what a former agent left. A directory without attempt.json is a claim that was not finished."""
        self._attempts.mkdir(parents=True, exist_ok=True)
        tasks.create_task(asyncio.to_thread(empty_all, self._attempts))
        for path in sorted(self._attempts.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                self._adopt_one(tasks, path)
            except OverspillError as error:
                log.error("attempt_unreadable", directory=str(path), why=str(error))  # noqa: TRY400 - the reason is all
                tasks.create_task(asyncio.to_thread(discard, path))
        tasks.create_task(self._site.sweep(self._is_here))

    def _is_here(self, name: str) -> bool:
        return any(key.name == name for key in (*self._claiming, *self._custodies))

    def _adopt_one(self, tasks: asyncio.TaskGroup, path: Path) -> None:
        """Raises NoAttempt, Poison for what can't be read."""
        directory = AttemptDir(path)
        data = read_whole(path / ORDER_FILE)
        if data is None:
            raise NoAttempt(path=path)
        order = decode(Order, data)
        if read_whole(directory.attempt_file) is None:
            self._intents.add(Key.of(order))
            return
        attempt = read_attempt(directory)
        log.info("attempt_adopted", job=order.job, epoch=order.epoch)
        fenced = attempt.on_lost == "rerun-fenced"
        custody = self._site.keep(Key.of(order), order.needs, directory, attempt.grant.spec)
        if of_former_boot(attempt.boot_id):
            custody.forsake("the machine was restarted")
            if fenced:
                custody.end("fenced")  # since when it had no contact, nobody knows
        self._hold(tasks, custody)

    # Effects

    def reconcile(self, tasks: asyncio.TaskGroup) -> bool:
        """Do what the orders ask. False when a part of it could not be done and is to be tried again."""
        done = True
        if self._inherited is None and self.book.complete:
            self._inherited = frozenset(self.book.orders)
        view = View(
            self.book.orders, self.book.complete, self.locals(), frozenset(self._settled), self._capacity, self.draining
        )
        for effect in reconcile(view):
            try:
                self._perform(effect, tasks)
            except OSError as error:
                # One attempt's disk trouble is not the others'; what is not done is found to be done again.
                done = False
                log.error("effect_failed", effect=repr(effect)[:200], why=str(error))  # noqa: TRY400 - the reason is all
        if self.book.complete:
            for key in self._intents - self.book.orders.keys() - self._claiming.keys():
                tasks.create_task(asyncio.to_thread(discard, self._attempts / key.name))
            self._intents.clear()
        return done

    def _perform(self, effect: Effect, tasks: asyncio.TaskGroup) -> None:
        match effect:
            case Claim(order):
                inherited = Key.of(order) in (self._inherited or ())
                claiming = Claiming(order, asyncio.create_task(self._claims.claim(order, inherited=inherited)))
                self._claiming[Key.of(order)] = claiming
                tasks.create_task(self._claim(claiming, tasks))
                self.changed.set()
            case Refuse(order, why):
                self._settle(Key.of(order))
                tasks.create_task(self._end_here(Key.of(order), ("error", Reason.REFUSED, why)))
            case Decline(order):
                self._settle(Key.of(order))
                word: CancelWord = "timeout" if order.desired is Desired.TIMEOUT else "cancel"
                tasks.create_task(self._end_here(Key.of(order), ENDINGS[word]))
            case End(key, word) if key in self._claiming:
                self._claiming[key].give_up(ENDINGS[word])
            case End(key, word):
                self._custodies[key].end(word)
            case Hold(key):
                self._custodies[key].hold()
            case Release(key):
                self._custodies[key].release()

    async def _end_here(self, key: Key, ending: Ending) -> None:
        """Tell the end of an attempt that never ran here, and forget what there is of it."""
        self._settle(key)
        await self._claims.tell_ended(key, *ending)
        await self._remove(key)

    async def _claim(self, claiming: Claiming, tasks: asyncio.TaskGroup) -> None:
        order, key, began = claiming.order, Key.of(claiming.order), Began()
        try:
            grant = await claiming.asking
            crash_point("agent.after-claim-before-layout")
            self._site.check(grant)
            directory = await asyncio.to_thread(self._site.lay_out, order, grant, began)
            if claiming.ending is not None:
                raise asyncio.CancelledError  # noqa: TRY301 - as if it had come while we were still asking
            crash_point("agent.after-layout-before-start")
            self._begin(tasks, order, directory, grant)
        except* (OverspillError, OSError) as errors:
            await self._claim_failed(key, errors.exceptions)
        except* asyncio.CancelledError:
            if claiming.ending is None:
                raise
            await self._end_here(key, claiming.ending)
        finally:
            claiming.asking.cancel()
            del self._claiming[key]
            self.changed.set()

    async def _claim_failed(self, key: Key, errors: Sequence[BaseException]) -> None:
        """One attempt that can't be; the others go on."""
        error = _innermost(errors[0])
        log.warning("claim_failed", job=key.job, epoch=key.epoch, why=str(error))
        match error:
            case ClaimedBefore():
                # By this machine, since the epoch is ordered nowhere else. Should its end be known already, this
                # changes nothing.
                await self._end_here(key, ("error", Reason.RUNNER_LOST, str(error)))
            case Unrunnable():
                await self._end_here(key, ("failed", Reason.SETUP_FAILED, str(error)))
            case Rejected():
                await self._end_here(key, ("error", Reason.REFUSED, str(error)))
            case _:
                await self._end_here(key, ("error", Reason.SETUP_FAILED, str(error)))

    def _begin(self, tasks: asyncio.TaskGroup, order: Order, directory: AttemptDir, grant: Grant) -> None:
        key = Key.of(order)
        custody = self._site.keep(key, order.needs, directory, grant.spec)
        custody.begin()
        crash_point("agent.after-start-before-step-ctl")
        log.info("attempt_begun", job=key.job, epoch=key.epoch, steps=len(grant.spec.steps))
        self._hold(tasks, custody)

    def _hold(self, tasks: asyncio.TaskGroup, custody: Keeping) -> None:
        self._custodies[custody.key] = custody
        tasks.create_task(self._keep(custody))

    async def _keep(self, custody: Keeping) -> None:
        failed = False
        try:
            await apart(custody.run())
        except* OSError as errors:
            # One attempt's disk trouble is not the others'. Its directory stays, for the next start of an agent.
            log.exception("custody_failed", job=custody.key.job, epoch=custody.key.epoch)
            await custody.abandon()
            heed_cancel()
            why = f"this machine's disk: {_innermost(errors)}"
            await self._claims.tell_ended(custody.key, "error", Reason.SETUP_FAILED, why)
            del self._custodies[custody.key]
            self._settle(custody.key)
            failed = True
        if failed:
            return
        self._settle(custody.key)
        del self._custodies[custody.key]
        self.changed.set()
        crash_point("agent.before-delete")
        await self._remove(custody.key)

    async def _remove(self, key: Key) -> None:
        self._site.forget(key.name)
        await asyncio.to_thread(discard, self._attempts / key.name)

    def _settle(self, key: Key) -> None:
        self._settled[key] = None
        while len(self._settled) > MAX_SETTLED:
            self._settled.popitem(last=False)

    # The end

    def stop_all(self) -> None:
        """End every attempt as the machine's doing, not as anybody's wish."""
        for claiming in self._claiming.values():
            claiming.give_up(STOPPED)
        for custody in self._custodies.values():
            custody.stop()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
