"""JetStream's JSON API and its error numbers, as errors of ours."""

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus import Message
from shared.cancelling import cancels, heed_cancel
from shared.errors import NotFound, OutcomeUnknown, OverspillError, Rejected, StreamFull, Unavailable, WrongSequence
from shared.stream import Stream

if TYPE_CHECKING:
    from shared.adapters.nats_bus import NatsBus

WRONG_LAST_SEQUENCE = (10071, 10164)
NO_MESSAGE = 10037
NO_CONSUMER = 10014
NO_STREAM = 10059
TOO_LARGE = (10054,)
FULL = (10047, 10023, 10028, 10077, 10074, 10070, 10002)
"""No space, storage or message limits reached: refused now, taken again later."""


STORE_NOTE = "overspill-store-bytes"
"""Key in a stream's metadata: what all streams together may take."""


class Missing(NotFound):
    """There is no {what} {name}."""


def raise_for(error: dict[str, Any], subject: str, expected: int | None = None) -> NoReturn:
    code, text = error.get("err_code", 0), error.get("description", "unknown")
    if code in WRONG_LAST_SEQUENCE:
        raise WrongSequence(subject=subject, expected=expected)
    if code in (NO_MESSAGE, NO_CONSUMER, NO_STREAM):
        raise Missing(what="message, consumer or stream for", name=subject)
    if code in TOO_LARGE:
        raise Rejected(why=f"the message for {subject} is too large: {text}")
    if code in FULL:
        raise StreamFull(what=subject, why=text)
    if error.get("code") == 503:  # noqa: PLR2004 - HTTP's number for it, which JetStream uses
        raise Unavailable(what=subject, why=text)
    raise OverspillError(why=f"the bus refused {subject}: {text} ({code})")


def to_message(raw: Msg) -> Message:
    return Message(raw.subject, raw.data, dict(raw.headers or {}))


async def round_trip(
    client: Client, subject: str, payload: bytes, timeout_seconds: float, headers: dict[str, str] | None = None
) -> Msg:
    """A request that ends when it is cancelled.

    `Client.request` uses `asyncio.wait_for`, which before Python 3.12 drops a cancellation that comes together with the
    answer: whoever asks in a loop would never end.
    """
    already = cancels()
    try:
        return await client.request(subject, payload, timeout=timeout_seconds, headers=headers)
    finally:
        heed_cancel(already)  # also in place of an error, after which the caller would ask again


async def pong(client: Client, timeout_seconds: float) -> bool:
    """Whether the server has answered a ping.

    `Client.flush` cancels what waits for the pong when it takes too long, or the caller is cancelled; the pong that
    comes later then ends nats-py's reading for good (InvalidStateError), and the connection hears nothing any more.
    """
    answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    await client._send_ping(answered)  # noqa: SLF001 - with a future that nobody cancels
    await asyncio.wait([answered], timeout=timeout_seconds)
    return answered.done()


async def api(
    bus: "NatsBus", call: str, body: dict[str, Any] | None = None, timeout_seconds: float = 5.0
) -> dict[str, Any]:
    """One call of `$JS.API.…`. Raises Unavailable, NotFound, OverspillError."""
    if not bus.connected:
        raise Unavailable(what="the bus", why="the connection is down")
    payload = orjson.dumps(body) if body is not None else b""
    try:
        reply = await round_trip(bus.client, f"$JS.API.{call}", payload, timeout_seconds)
    except nats.errors.NoRespondersError as error:
        raise Unavailable(what="JetStream", why="not ready yet") from error
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise OutcomeUnknown(what=f"JetStream {call}", why=str(error) or "timed out") from error
    answer: dict[str, Any] = orjson.loads(reply.data)
    if "error" in answer:
        raise_for(answer["error"], call)
    return answer


async def stream_info(bus: "NatsBus", stream: Stream) -> dict[str, Any]:
    """Raises Unavailable, NotFound."""
    return await api(bus, f"STREAM.INFO.{stream.name}")
