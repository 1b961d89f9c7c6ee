"""An attempt in a pod hears for itself what should be of it: live orders wake, an answer of the hub is the truth."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import structlog

from runner.protocol.attempt import Attempt
from runner.protocol.directory import AttemptDir, write_once, write_whole
from runner.step_ctl.courier import Courier
from runner.step_ctl.desired import Known, Wish, heard, told
from runner.step_ctl.guardians import boot_ns
from shared.bus import Bus, Message
from shared.errors import OverspillError, Poison, Unavailable
from shared.facts.order import Order
from shared.flow import DesiredAt
from shared.wire import decode

log = structlog.get_logger()

ASK_SECONDS = 60.0
"""Live orders come without being asked for: this is for those that a break of the connection swallowed unseen."""
FENCED_ASK_SECONDS = 10.0
UNANSWERED_SECONDS = 2.0


class Obeying:
    """Of one attempt. `run` goes on until it is cancelled."""

    def __init__(self, directory: AttemptDir, attempt: Attempt, bus: Bus, courier: Courier) -> None:
        self._directory = directory
        self._grant = attempt.grant
        self._bus = bus
        self._courier = courier
        self._fence_seconds = attempt.fence_seconds if attempt.on_lost == "rerun-fenced" else None
        self._known = Known(self._grant.epoch)
        self._ask = asyncio.Event()
        self._may_begin = asyncio.Event()
        if self._fence_seconds is None:
            self._may_begin.set()
        bus.on_reconnect(self._ask.set)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._ask_on())

    async def may_begin(self) -> None:
        """Under a fence: once there was a contact for it to go by."""
        await self._may_begin.wait()

    async def _listen(self) -> None:
        subject = DesiredAt.filter(tenant=self._grant.tenant, job=self._grant.job)
        while True:
            try:
                async with self._bus.listen(subject) as messages:
                    self._ask.set()  # what came before we listened
                    await self._hear(messages)
            except Unavailable as error:
                log.info("orders_not_heard", why=str(error))
                await asyncio.sleep(UNANSWERED_SECONDS)  # the asking goes on meanwhile

    async def _hear(self, messages: AsyncIterator[Message]) -> None:
        async for message in messages:
            try:
                order = decode(Order, message.data)
            except Poison as error:
                log.warning("order_not_understood", subject=message.subject, why=str(error))
                continue
            if (order.tenant, order.job) == (self._grant.tenant, self._grant.job):
                self._known, wish = heard(self._known, order)
                self._do(wish)

    async def _ask_on(self) -> None:
        answered = True
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause(answered=answered)):
                    await self._ask.wait()
            self._ask.clear()
            asked_ns = boot_ns()
            try:
                newest = await self._courier.ask_desired()
            except OverspillError as error:
                if answered:
                    log.info("desired_unknown", why=str(error))
                answered = False
                continue
            answered = True
            self._known, wish = told(self._known, newest)
            self._do(wish)
            if wish != "stale":
                self._note_contact(asked_ns)

    def _pause(self, *, answered: bool) -> float:
        if not answered:
            return UNANSWERED_SECONDS
        if self._fence_seconds is not None:
            return min(FENCED_ASK_SECONDS, self._fence_seconds / 4)
        return ASK_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - only spreads the questions

    def _do(self, wish: Wish | None) -> None:
        match wish:
            case "cancel" | "timeout":
                self._end(wish)
            case "stale" if not self._directory.finish.exists():
                # Once nothing runs any more it is how every attempt ends: its order goes, it stores what is left.
                self._end(wish)
            case "hold":
                write_once(self._directory.hold, b"hold\n")
            case "run":
                self._directory.hold.unlink(missing_ok=True)
            case _:
                pass

    def _end(self, word: Wish) -> None:
        if word in ("cancel", "timeout", "stale") and self._directory.end(word):
            log.info("attempt_ending", job=self._grant.job, epoch=self._grant.epoch, word=word)

    def _note_contact(self, asked_ns: int) -> None:
        """Once what the answer asks is done, never before: the fence goes by it."""
        if self._fence_seconds is None:
            return
        try:
            write_whole(self._directory.contact, f"{asked_ns}\n".encode())
        except OSError as error:
            log.error("contact_not_noted", why=str(error))  # noqa: TRY400 - the fence comes the sooner, no more
        else:
            self._may_begin.set()
