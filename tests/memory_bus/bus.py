"""A party's connection to a MemoryServer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from shared.adapters.nats_bus import Refused
from shared.backoff import until_available
from shared.bus import TRACEPARENT, Delivery, Headers, KeyValue, Message, Responder, Stored
from shared.errors import OutcomeUnknown, OverspillError, Unavailable
from shared.requests import Refusal
from shared.stream import Bucket, Stream
from shared.subject import Subject
from shared.telemetry import continue_trace, current_traceparent
from tests.memory_bus.keys import MemoryKeyValue
from tests.memory_bus.server import MemoryServer, Subscription
from tests.memory_bus.stored import Consumer, Log

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MemoryDelivery:
    message: Message
    times_delivered: int
    _log: Log
    _consumer: Consumer
    _now: Callable[[], float]

    async def ack(self) -> None:
        self._consumer.pending.pop(self.message.seq, None)
        if self._log.declared.policy == "workqueue":
            self._log.remove(self.message.seq)

    async def retry(self, delay_seconds: float) -> None:
        self._again(delay_seconds)

    async def drop(self) -> None:
        await self.ack()

    async def in_progress(self) -> None:
        self._again(self._consumer.ack_wait_seconds)

    def _again(self, seconds: float) -> None:
        if self.message.seq in self._consumer.pending:
            self._consumer.pending[self.message.seq] = (self._now() + seconds, self.times_delivered)
            self._log.wake()


class MemoryBus:
    """See `shared.bus.Bus`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._connected = True
        self._wakes: list[Callable[[], None]] = []
        self._restored = asyncio.Event()
        self._restored.set()

    # The connection

    @property
    def connected(self) -> bool:
        return self._connected

    def cut(self) -> None:
        self._connected = False
        self._restored.clear()

    def restore(self) -> None:
        if not self._connected:
            self._connected = True
            self._restored.set()
            self._server.wake()
            for wake in tuple(self._wakes):
                wake()

    def on_reconnect(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    def forget_wake(self, wake: Callable[[], None]) -> None:
        with contextlib.suppress(ValueError):
            self._wakes.remove(wake)

    def require_connection(self) -> None:
        if not self._connected:
            raise Unavailable(what="the bus", why="the connection is down")

    async def way(self) -> None:
        """To the server: others may get there first. Raises Unavailable."""
        await asyncio.sleep(0)
        self.require_connection()

    async def written(self, name: str, write: Callable[[], T]) -> T:
        """A write and its answer. Raises OutcomeUnknown, Unavailable, WrongSequence."""
        await self.way()
        fate = self._server.twist.fate()
        if fate == "lost":
            raise OutcomeUnknown(what=f"publishing to {name}", why="timed out")
        result = write()
        if fate == "untold":
            raise OutcomeUnknown(what=f"publishing to {name}", why="timed out")
        return result

    # Messages

    async def publish(
        self,
        subject: Subject | str,
        data: bytes,
        *,
        headers: Headers | None = None,
        expect_seq: int | None = None,
        message_id: str | None = None,
        timeout_seconds: float = 5.0,
    ) -> Stored:
        del timeout_seconds
        name, out = str(subject), _outgoing(headers)
        return await self.written(name, lambda: self._server.store(name, data, out, expect_seq, message_id))

    async def notify(self, subject: Subject | str, data: bytes, headers: Headers | None = None) -> None:
        await self.way()
        self._server.push(Message(str(subject), data, _outgoing(headers)))

    async def request(
        self, subject: Subject | str, data: bytes = b"", *, headers: Headers | None = None, timeout_seconds: float = 5.0
    ) -> Message:
        await self.way()
        name = str(subject)
        serving = self._server.responder(name)
        if serving is None or serving.answer is None:
            raise Unavailable(what=name, why="nobody serves it")
        answering = serving.answer(Message(name, data, _outgoing(headers)))
        done, _ = await asyncio.wait([answering], timeout=timeout_seconds)
        if not done or answering.cancelled() or not self._connected or not serving.connected():
            raise Unavailable(what=name, why="no answer in time")
        answer = answering.result()
        if isinstance(answer, BaseException):
            raise answer
        return Message(name, answer[0], answer[1])

    @asynccontextmanager
    async def serve(self, subject: str, responder: Responder, *, queue: str = "") -> AsyncIterator[None]:
        await until_available(subject, self.way)
        async with asyncio.TaskGroup() as tasks:

            def answer(message: Message) -> "asyncio.Task[tuple[bytes, Headers] | BaseException]":
                return tasks.create_task(_answer(message, responder))

            subscription = Subscription(subject, queue, lambda: self._connected, answer=answer)
            with self._subscribed(subscription):
                yield

    @asynccontextmanager
    async def listen(self, *subjects: str, limit: int = 65_536) -> AsyncIterator[AsyncIterator[Message]]:
        await self.way()
        waiting: asyncio.Queue[Message] = asyncio.Queue(limit)

        def take(message: Message) -> None:
            if waiting.full():
                waiting.get_nowait()
            waiting.put_nowait(message)

        with contextlib.ExitStack() as stack:
            for subject in subjects:
                stack.enter_context(self._subscribed(Subscription(subject, "", lambda: self._connected, take=take)))
            yield _drain(waiting)

    @contextlib.contextmanager
    def _subscribed(self, subscription: Subscription) -> "contextlib.Iterator[None]":
        self._server.subscriptions.append(subscription)
        try:
            yield
        finally:
            self._server.subscriptions.remove(subscription)

    # Streams

    async def _log(self, stream: Stream) -> Log:
        await self.way()
        return self._server.logs[stream.name]

    async def last(self, stream: Stream, subject: Subject | str) -> Message | None:
        return (await self._log(stream)).last(str(subject))

    async def last_each(self, stream: Stream, *filters: str) -> list[Message]:
        return (await self._log(stream)).last_each(filters)

    async def read(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        for message in list((await self._log(stream)).since(from_seq, filters)):
            yield message

    async def tail(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        kept, position = self._server.logs[stream.name], from_seq - 1
        while True:
            await self._restored.wait()
            held = stream.name in self._server.twist.held
            message = None if held else next(kept.since(position + 1, filters), None)
            if message is None:
                await kept.grown()
                continue
            position = message.seq
            yield message

    async def work(
        self,
        stream: Stream,
        name: str,
        *filters: str,
        ack_wait_seconds: float = 30.0,
        max_pending: int = 256,
        batch: int = 64,
    ) -> AsyncIterator[Delivery]:
        del batch
        kept, now = self._server.logs[stream.name], self._server.now
        consumer = kept.consumers.setdefault(name, Consumer(filters, ack_wait_seconds, max_pending))
        while True:
            await self._restored.wait()
            taken = consumer.take(kept, now())
            if taken is None:
                due = consumer.next_due()
                await kept.grown(None if due is None else max(0.0, due - now()) + 0.001)
                continue
            yield MemoryDelivery(*taken, kept, consumer, now)

    async def end_seq(self, stream: Stream) -> int:
        return (await self._log(stream)).end

    async def first_seq(self, stream: Stream) -> int:
        return (await self._log(stream)).first

    async def purge(self, stream: Stream, subject: str) -> int:
        return (await self._log(stream)).purge(subject)

    async def purge_through(self, stream: Stream, seq: int) -> int:
        return (await self._log(stream)).purge_through(seq)

    def bucket(self, bucket: Bucket) -> KeyValue:
        return MemoryKeyValue(self, self._server.buckets[bucket.name], bucket.name)


async def _answer(message: Message, responder: Responder) -> tuple[bytes, Headers] | BaseException:
    with continue_trace(message.headers.get(TRACEPARENT)):
        try:
            return await responder(message)
        except OverspillError as error:
            if error.status == Unavailable.status:
                return Unavailable(what="the answer", why=str(error))
            return Refused(Refusal(code=error.code, detail=str(error), status=error.status))
        except Exception:
            log.exception("request_failed", subject=message.subject)
            why = "the service failed on this request; its log says why"
            return Refused(Refusal(code="internal", detail=why, status=500))


def _outgoing(headers: Headers | None) -> dict[str, str]:
    out = dict(headers or {})
    traceparent = current_traceparent()
    if traceparent is not None:
        out.setdefault(TRACEPARENT, traceparent)
    return out


async def _drain(waiting: "asyncio.Queue[Message]") -> AsyncIterator[Message]:
    while True:
        yield await waiting.get()
