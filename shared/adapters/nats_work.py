"""A share of a stream's messages through a durable pull consumer, each until acknowledged."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nats.errors
import orjson
from nats.aio.msg import Msg

from shared.adapters.nats_api import Missing, api
from shared.adapters.nats_read import Place, is_stored
from shared.bus import Message
from shared.errors import Unavailable
from shared.stream import Stream

if TYPE_CHECKING:
    from shared.adapters.nats_bus import NatsBus

# A pull that waits at the server is blind after a server restart until it lapses: keep it short.
PULL_SECONDS = 3.0
INACTIVE_SECONDS = 600.0
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class NatsDelivery:
    message: Message
    times_delivered: int
    _bus: "NatsBus"
    _reply: str

    async def ack(self) -> None:
        await self._tell(b"+ACK")

    async def retry(self, delay_seconds: float) -> None:
        await self._tell(b"-NAK " + orjson.dumps({"delay": int(delay_seconds * 1e9)}))

    async def drop(self) -> None:
        await self._tell(b"+TERM")

    async def in_progress(self) -> None:
        await self._tell(b"+WPI")

    async def _tell(self, word: bytes) -> None:
        # Lost with the connection, it means one more delivery, which every handler bears.
        with contextlib.suppress(nats.errors.Error):
            await self._bus.client.publish(self._reply, word)


async def work(
    bus: "NatsBus",
    stream: Stream,
    name: str,
    filters: tuple[str, ...],
    ack_wait_seconds: float,
    max_pending: int,
    batch: int,
    from_seq: int,
) -> AsyncIterator[NatsDelivery]:
    while True:
        try:
            await _ensure(bus, stream, name, filters, ack_wait_seconds, max_pending, from_seq)
            async with contextlib.aclosing(_pull(bus, stream.name, name, batch)) as pulled:
                async for delivery in pulled:
                    yield delivery
        except (Unavailable, Missing):
            # Only after a failure: the server is away or the consumer was removed.
            await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311


async def _pull(bus: "NatsBus", stream: str, name: str, batch: int) -> AsyncGenerator[NatsDelivery, None]:
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

    async def on_message(raw: Msg) -> None:
        arrived.put_nowait(raw)

    def on_reconnect() -> None:
        arrived.put_nowait(None)

    inbox = bus.new_inbox()
    subscription = await bus.client.subscribe(inbox, cb=on_message)
    bus.on_reconnect(on_reconnect)
    body = orjson.dumps({"batch": batch, "expires": int(PULL_SECONDS * 1e9)})
    try:
        while True:
            await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", body, reply=inbox)
            wanted = batch
            while wanted:
                raw = await _arrival(arrived)
                if raw is None:
                    break
                status = None if is_stored(raw) else (raw.headers or {}).get("Status")
                if status in ("404", "408"):
                    break
                if status is not None:
                    raise Unavailable(what=f"consumer {name}", why=(raw.headers or {}).get("Description", status))
                wanted -= 1
                place = Place.of(raw)
                message = Message(raw.subject, raw.data, dict(raw.headers or {}), place.stream_seq, place.time_unix_ns)
                yield NatsDelivery(message, place.delivered, bus, raw.reply)
    except nats.errors.Error as error:
        raise Unavailable(what=f"consumer {name}", why=str(error)) from error
    finally:
        bus.forget_wake(on_reconnect)
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _arrival(arrived: "asyncio.Queue[Msg | None]") -> Msg | None:
    """None when the pull has to be asked again."""
    try:
        async with asyncio.timeout(PULL_SECONDS + 1):
            return await arrived.get()
    except TimeoutError:
        return None


async def _ensure(
    bus: "NatsBus",
    stream: Stream,
    name: str,
    filters: tuple[str, ...],
    ack_wait_seconds: float,
    max_pending: int,
    from_seq: int,
) -> None:
    config: dict[str, Any] = {
        "name": name,
        "durable_name": name,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_seconds * 1e9),
        "max_ack_pending": max_pending,
        "max_waiting": 64,
        "inactive_threshold": int(INACTIVE_SECONDS * 1e9),
    }
    if from_seq > 1:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": from_seq}
    if filters:
        config["filter_subjects"] = list(filters)
    await api(
        bus, f"CONSUMER.CREATE.{stream.name}.{name}", {"stream_name": stream.name, "config": config, "action": ""}
    )
