"""Reading streams in order through consumers that are thrown away: acknowledgement none, checked for gaps.

nats-py's own ordered consumer drops silently when slow and is blind for long after a server restart; here every
message's place in the consumer's sequence is checked, heartbeats are awaited, and a reconnect makes a new consumer at
once.
"""

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import nats.errors
import structlog
from nats.aio.msg import Msg

from shared.adapters.nats_api import Missing, api, round_trip
from shared.adapters.nats_filters import covering, matcher
from shared.bus import Message
from shared.errors import Unavailable
from shared.ids import random_id

if TYPE_CHECKING:
    from shared.adapters.nats_bus import NatsBus

log = structlog.get_logger()

HEARTBEAT_SECONDS = 2.0
SILENCE_SECONDS = 2.5 * HEARTBEAT_SECONDS
INACTIVE_SECONDS = 30.0
DIRECT_SECONDS = 5.0
RETRY_SECONDS = (0.05, 2.0)


class _Broken(Exception):
    """This consumer can't go on; a new one takes over where it stopped."""


@dataclass(frozen=True, slots=True)
class Place:
    """What `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>` says."""

    delivered: int
    stream_seq: int
    consumer_seq: int
    time_unix_ns: int
    pending: int

    @classmethod
    def of(cls, raw: Msg) -> "Place":
        tokens = raw.reply.split(".")
        # With a domain and account hash there are two more tokens behind `$JS.ACK`, and perhaps a random last one.
        fields = tokens[4:9] if len(tokens) == 9 else tokens[6:11]  # noqa: PLR2004
        return cls(*(int(token) for token in fields))


def is_stored(raw: Msg) -> bool:
    """A stored message, not a word of the server about the consumer. Only the server writes the reply subject; a header
    `Status` proves nothing, for whoever wrote the message may have put it there.
    """
    return raw.reply.startswith("$JS.ACK.")


async def last(bus: "NatsBus", stream: str, subject: str) -> Message | None:
    """From the leader's copy. A direct get costs a third of it, but any copy may answer: it is for streams with one."""
    try:
        if "*" not in subject and ">" not in subject and await bus.has_one_copy(stream):
            return await _direct(bus, stream, subject)
        found = (await api(bus, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
    except Missing:
        return None
    headers = _parse_headers(base64.b64decode(found["hdrs"])) if found.get("hdrs") else {}
    return Message(
        found["subject"], base64.b64decode(found.get("data", "")), headers, found["seq"], _unix_ns(found["time"])
    )


async def _direct(bus: "NatsBus", stream: str, subject: str) -> Message | None:
    try:
        raw = await round_trip(bus.client, f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", DIRECT_SECONDS)
    except nats.errors.NoRespondersError as error:
        raise Unavailable(what=f"stream {stream}", why="nobody serves it now") from error
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise Unavailable(what=f"stream {stream}", why=str(error) or "no answer in time") from error
    headers = dict(raw.headers or {})
    # The server appends its own headers, so that of two with one name ours is the server's; a refusal has none.
    if headers.get("Nats-Stream") != stream:
        return None if headers.get("Status") == "404" else _refused(stream, headers)
    about = [headers.pop(name) for name in ("Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp")]
    return Message(about[1], raw.data, headers, int(about[2]), _unix_ns(about[3]))


def _refused(stream: str, headers: dict[str, str]) -> NoReturn:
    raise Unavailable(what=f"stream {stream}", why=headers.get("Description", headers.get("Status", "no answer")))


def _parse_headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode(errors="replace").split("\r\n")[1:]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines if line)}


def _unix_ns(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)


async def endless(bus: "NatsBus", stream: str, filters: tuple[str, ...], from_seq: int) -> AsyncIterator[Message]:
    position, pause, one, wanted = max(from_seq, 1), RETRY_SECONDS[0], covering(filters), matcher(filters)
    while True:
        try:
            async with contextlib.aclosing(_consume(bus, stream, (one,), position)) as consumer:
                async for message, _ in consumer:
                    position, pause = message.seq + 1, RETRY_SECONDS[0]
                    if wanted(message.subject):
                        yield message
        except (_Broken, Unavailable, Missing) as error:
            if not isinstance(error, _Broken):
                log.warning("waits", what=f"stream {stream}", why=str(error))
            # Not polling: only after a failure, so that a server that is away isn't hammered.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, RETRY_SECONDS[1])


async def finite(bus: "NatsBus", stream: str, filters: tuple[str, ...], from_seq: int | None) -> AsyncIterator[Message]:
    """What is there now; `from_seq` None: the last of each subject. Raises Unavailable when reading breaks off for
    good.
    """
    position, tries, wanted = from_seq, 0, matcher(filters)
    if from_seq is not None:
        filters = (covering(filters),)
    while True:
        try:
            async with contextlib.aclosing(_consume(bus, stream, filters, position, ends=True)) as consumer:
                async for message, pending in consumer:
                    if message is not None:
                        if position is not None:
                            position = message.seq + 1
                        if wanted(message.subject):
                            yield message
                    if pending == 0:
                        return
            return
        except _Broken as error:
            tries += 1
            if tries > 3:  # noqa: PLR2004
                raise Unavailable(what=f"stream {stream}", why="reading it broke off four times") from error


async def _consume(
    bus: "NatsBus", stream: str, filters: tuple[str, ...], from_seq: int | None, *, ends: bool = False
) -> AsyncGenerator[tuple[Any, int], None]:
    """Yields (message, pending after it). With `ends`, first (None, 0) if there is nothing. Raises _Broken,
    Unavailable.
    """
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

    async def on_message(raw: Msg) -> None:
        arrived.put_nowait(raw)

    def on_reconnect() -> None:
        arrived.put_nowait(None)

    inbox, name = bus.new_inbox(), f"r-{random_id()}"
    try:
        subscription = await bus.client.subscribe(inbox, cb=on_message, pending_msgs_limit=-1, pending_bytes_limit=-1)
    except nats.errors.Error as error:
        raise Unavailable(what="the bus", why=str(error)) from error
    bus.on_reconnect(on_reconnect)
    try:
        pending = await _create(bus, stream, name, inbox, filters, from_seq)
        if ends and pending == 0:
            yield None, 0
            return
        seen = 0
        while True:
            raw = await _next(arrived)
            if not is_stored(raw):
                await _on_control(bus, raw, seen)
                continue
            place = Place.of(raw)
            seen += 1
            if place.consumer_seq != seen:
                raise _Broken
            headers = dict(raw.headers or {})
            yield Message(raw.subject, raw.data, headers, place.stream_seq, place.time_unix_ns), place.pending
    finally:
        bus.forget_wake(on_reconnect)
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
        await _discard(bus, stream, name)


async def _next(arrived: "asyncio.Queue[Msg | None]") -> Msg:
    if not arrived.empty():
        raw = arrived.get_nowait()  # no timer for what is there
    else:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                raw = await arrived.get()
        except TimeoutError as error:
            raise _Broken from error
    if raw is None:
        raise _Broken
    return raw


async def _on_control(bus: "NatsBus", raw: Msg, seen: int) -> None:
    """Heartbeat: says how far the consumer is. Flow control: wants an answer."""
    headers = raw.headers or {}
    answer_to = raw.reply or headers.get("Nats-Consumer-Stalled")
    if answer_to:
        try:
            await bus.client.publish(answer_to, b"")
        except nats.errors.Error as error:
            raise _Broken from error
    told = headers.get("Nats-Last-Consumer")
    if told is not None and int(told) > seen:
        raise _Broken


async def _create(
    bus: "NatsBus", stream: str, name: str, inbox: str, filters: tuple[str, ...], from_seq: int | None
) -> int:
    """Messages that wait for this consumer."""
    config: dict[str, Any] = {
        "name": name,
        "deliver_subject": inbox,
        "ack_policy": "none",
        "replay_policy": "instant",
        "max_deliver": 1,
        "flow_control": True,
        "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
        "inactive_threshold": int(INACTIVE_SECONDS * 1e9),
        "mem_storage": True,
        "num_replicas": 1,
    }
    if from_seq is None:
        config["deliver_policy"] = "last_per_subject"
    else:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": max(from_seq, 1)}
    config["filter_subjects"] = list(filters) or [">"]
    answer = await api(
        bus, f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config, "action": "create"}
    )
    delivered = int(answer.get("delivered", {}).get("consumer_seq", 0))
    return int(answer["num_pending"]) + delivered


async def _discard(bus: "NatsBus", stream: str, name: str) -> None:
    """Best effort: a consumer nobody hears ends by itself after INACTIVE_SECONDS."""
    if bus.connected:
        with contextlib.suppress(nats.errors.Error, OSError):
            await bus.client.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b"")
