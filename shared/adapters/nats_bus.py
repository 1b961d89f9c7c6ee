"""`shared.bus.Bus` over nats-py: connection, publishing, requests, core messages."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import nacl.signing
import nats
import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.adapters import nats_read, nats_work
from shared.adapters.nats_api import STORE_NOTE, api, pong, raise_for, round_trip, stream_info, to_message
from shared.adapters.nats_kv import NatsKeyValue
from shared.adapters.nats_spans import answering, asking, sending
from shared.backoff import until_available
from shared.bus import TRACEPARENT, Delivery, Headers, KeyValue, Message, Responder, Stored
from shared.cancelling import cancels, heed_cancel
from shared.credential import Credential
from shared.errors import OutcomeUnknown, OverspillError, Rejected, Unavailable
from shared.flow import JOBS, LOG
from shared.ids import random_id
from shared.metrics import REFUSED
from shared.requests import Refusal
from shared.stream import Bucket, Store, Stream
from shared.subject import Subject
from shared.telemetry import continue_trace, count, current_traceparent, system_error, valid_traceparent
from shared.wire import decode, encode

log = structlog.get_logger()

ERROR = "Overspill-Error"
MAX_CONCURRENT_REQUESTS = 256
RECONNECT_SECONDS = 0.2
COPIES_SECONDS = 30.0
"""How long it takes to be noticed that an operator gave a stream more copies."""


class Refused(Rejected):
    """{why}"""

    # What a responder answered, under the responder's own code and status.

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(why=refusal.detail)
        self.code, self.status = refusal.code, refusal.status


def _refused(refusal: Refusal) -> OverspillError:
    if refusal.status == Unavailable.status:
        return Unavailable(what="the answer", why=refusal.detail)
    return Refused(refusal)


class CredentialRefused(Unavailable):
    """The bus refuses this credential: it expired, was revoked, or its account isn't known there yet."""

    code = "credential_refused"


class NatsBus:
    """See `shared.bus.Bus`. Make it with `NatsBus.connect`."""

    def __init__(self, client: Client) -> None:
        self._nc = client
        self._connecting = True
        self._wakes: list[Callable[[], None]] = []
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        self._copies: dict[str, tuple[int, float]] = {}

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, credential: Credential | None = None, *, name: str = "overspill", timeout_seconds: float = 10.0
    ) -> AsyncIterator[Self]:
        """`url`: comma-separated addresses. Raises Unavailable when none answers or the credential is refused."""
        client = Client()
        bus = cls(client)
        options: dict[str, Any] = {}
        if credential is not None:
            options = {
                "user_jwt_cb": credential.jwt.encode,
                "signature_cb": _signer(credential.seed),
                "inbox_prefix": credential.inbox_prefix.encode(),
            }
        try:
            async with asyncio.timeout(timeout_seconds):
                await client.connect(
                    servers=[part.strip() for part in url.split(",")],
                    name=name,
                    error_cb=bus._on_error,
                    reconnected_cb=bus._on_reconnected,
                    disconnected_cb=bus._on_disconnected,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # annotated int, slept as float
                    ping_interval=10,
                    max_outstanding_pings=2,
                    allow_reconnect=True,
                    **options,
                )
                if not client.is_connected:
                    raise Unavailable(what=f"the bus at {url}", why="not connected")
                bus._connecting = False
        except CredentialRefused:
            await client.close()
            raise
        except (OSError, TimeoutError, nats.errors.Error) as error:
            await client.close()
            raise Unavailable(what=f"the bus at {url}", why=str(error) or type(error).__name__) from error
        try:
            yield bus
        finally:
            await _close(client)

    @property
    def connected(self) -> bool:
        return self._nc.is_connected

    def on_reconnect(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    async def _on_reconnected(self) -> None:
        log.info("bus_reconnected")
        for wake in tuple(self._wakes):
            wake()

    async def _on_disconnected(self) -> None:
        if not self._nc.is_closed:
            log.info("bus_disconnected")

    async def _on_error(self, error: Exception) -> None:
        if self._connecting and "uthorization" in str(error):
            # Raised into connect(), which would otherwise try the same credential until its time is up.
            raise CredentialRefused
        # Permission violations arrive only here; the caller's own request just times out.
        if "ermission" in str(error):
            count(REFUSED, attributes={"overspill.refusal.kind": "permission"})
        if self._nc.is_connected or "ermission" in str(error):
            log.warning("bus_error", error=str(error) or type(error).__name__)

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
        with sending(subject):
            return await self._publish(str(subject), data, _outgoing(headers), expect_seq, message_id, timeout_seconds)

    async def _publish(
        self,
        name: str,
        data: bytes,
        out: dict[str, str],
        expect_seq: int | None,
        message_id: str | None,
        timeout_seconds: float,
    ) -> Stored:
        if expect_seq is not None:
            out["Nats-Expected-Last-Subject-Sequence"] = str(expect_seq)
        if message_id is not None:
            out["Nats-Msg-Id"] = message_id
        self._require_connection()
        try:
            reply = await round_trip(self._nc, name, data, timeout_seconds, out or None)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(what=f"the stream of {name}", why="no stream takes it now") from error
        except nats.errors.MaxPayloadError as error:
            raise Rejected(why=f"a message of {len(data)} bytes is too large for {name}") from error
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise OutcomeUnknown(what=f"publishing to {name}", why=str(error) or "timed out") from error
        answer = orjson.loads(reply.data)
        if "error" in answer:
            raise_for(answer["error"], name, expect_seq)
        return Stored(answer["seq"], bool(answer.get("duplicate")))

    async def notify(self, subject: Subject | str, data: bytes, headers: Headers | None = None) -> None:
        self._require_connection()
        await self._nc.publish(str(subject), data, headers=_outgoing(headers) or None)

    async def request(
        self, subject: Subject | str, data: bytes = b"", *, headers: Headers | None = None, timeout_seconds: float = 5.0
    ) -> Message:
        self._require_connection()
        try:
            with asking(subject):
                reply = await round_trip(self._nc, str(subject), data, timeout_seconds, _outgoing(headers) or None)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(what=str(subject), why="nobody serves it") from error
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise Unavailable(what=str(subject), why=str(error) or "no answer in time") from error
        message = to_message(reply)
        if ERROR in message.headers:
            raise _refused(decode(Refusal, message.data))
        return message

    @asynccontextmanager
    async def serve(self, subject: str, responder: Responder, *, queue: str = "") -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:

            async def on_request(raw: Msg) -> None:
                await self._slots.acquire()
                tasks.create_task(self._answer(raw, responder)).add_done_callback(lambda _: self._slots.release())

            subscription = await self._nc.subscribe(subject, queue=queue, cb=on_request)
            try:
                await until_available(subject, self._flush)
                yield
            finally:
                await _unsubscribe(subscription)

    async def _answer(self, raw: Msg, responder: Responder) -> None:
        message = to_message(raw)
        parent = valid_traceparent(message.headers.get(TRACEPARENT))
        with continue_trace(parent), answering(message.subject, parent) as notes:
            try:
                data, headers = await responder(message)
            except OverspillError as error:
                if notes is not None:
                    notes.failed(error)
                data, headers = _refusal(error.code, str(error), error.status)
            except Exception as error:
                if notes is not None:
                    notes.failed(error)
                # The asker gets an answer whatever breaks here; the details stay in our log.
                system_error("request_failed")
                log.exception("request_failed", subject=message.subject)
                data, headers = _refusal("internal", "the service failed on this request; its log says why", 500)
        if raw.reply:
            with contextlib.suppress(nats.errors.ConnectionClosedError):
                await self._nc.publish(raw.reply, data, headers=dict(headers) or None)

    @asynccontextmanager
    async def listen(self, *subjects: str, limit: int = 65_536) -> AsyncIterator[AsyncIterator[Message]]:
        queue: asyncio.Queue[Message] = asyncio.Queue(limit)

        async def on_message(raw: Msg) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(to_message(raw))

        subscriptions = [await self._nc.subscribe(subject, cb=on_message) for subject in subjects]
        try:
            await self._flush()
            yield _drain(queue)
        finally:
            for subscription in subscriptions:
                await _unsubscribe(subscription)

    async def _flush(self) -> None:
        """The server knows our subscriptions once this returns."""
        for _ in range(2):  # nats-py sends the first ping ahead of what it has buffered; the second one goes behind it
            if not (self.connected and await pong(self._nc, 5)):
                raise Unavailable(what="the bus", why="no pong in time")

    async def last(self, stream: Stream, subject: Subject | str) -> Message | None:
        return await nats_read.last(self, stream.name, str(subject))

    async def last_each(self, stream: Stream, *filters: str) -> list[Message]:
        newest: dict[str, Message] = {}
        async for message in nats_read.finite(self, stream.name, filters, None):
            newest[message.subject] = message
        return sorted(newest.values(), key=lambda message: message.seq)

    def read(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        return nats_read.finite(self, stream.name, filters, from_seq)

    def tail(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        return nats_read.endless(self, stream.name, filters, from_seq)

    def work(
        self,
        stream: Stream,
        name: str,
        *filters: str,
        ack_wait_seconds: float = 30.0,
        max_pending: int = 256,
        batch: int = 64,
        from_seq: int = 1,
    ) -> AsyncIterator[Delivery]:
        return nats_work.work(self, stream, name, filters, ack_wait_seconds, max_pending, batch, from_seq)

    async def end_seq(self, stream: Stream) -> int:
        return int((await stream_info(self, stream))["state"]["last_seq"])

    async def first_seq(self, stream: Stream) -> int:
        return int((await stream_info(self, stream))["state"]["first_seq"])

    async def purge(self, stream: Stream, subject: str) -> int:
        return int((await api(self, f"STREAM.PURGE.{stream.name}", {"filter": subject})).get("purged", 0))

    async def purge_through(self, stream: Stream, seq: int) -> int:
        # The server wants the first sequence to be kept.
        return int((await api(self, f"STREAM.PURGE.{stream.name}", {"seq": seq + 1})).get("purged", 0))

    async def store(self) -> Store:
        account, jobs, logs = await api(self, "INFO"), await stream_info(self, JOBS), await stream_info(self, LOG)
        return Store(
            used_bytes=int(account["storage"]),
            limit_bytes=int(jobs["config"].get("metadata", {}).get(STORE_NOTE, 0)),
            log_bytes=int(logs["state"]["bytes"]),
            log_limit_bytes=max(0, int(logs["config"]["max_bytes"])),
        )

    def bucket(self, bucket: Bucket) -> KeyValue:
        return NatsKeyValue(self, bucket)

    # For the other files of this adapter.

    @property
    def client(self) -> Client:
        return self._nc

    async def has_one_copy(self, stream: str) -> bool:
        """So that whoever answers is its leader. Raises Unavailable, NotFound."""
        now = asyncio.get_running_loop().time()
        copies, asked_at = self._copies.get(stream, (0, -COPIES_SECONDS))
        if now - asked_at >= COPIES_SECONDS:
            copies = int((await api(self, f"STREAM.INFO.{stream}"))["config"]["num_replicas"])
            self._copies[stream] = copies, now
        return copies == 1

    def new_inbox(self) -> str:
        return self._nc.new_inbox()

    def forget_wake(self, wake: Callable[[], None]) -> None:
        with contextlib.suppress(ValueError):
            self._wakes.remove(wake)

    def _require_connection(self) -> None:
        if not self._nc.is_connected:
            raise Unavailable(what="the bus", why="the connection is down")


def _outgoing(headers: Headers | None) -> dict[str, str]:
    out = dict(headers or {})
    traceparent = current_traceparent()
    if traceparent is not None:
        out.setdefault(TRACEPARENT, traceparent)
    return out


def _refusal(code: str, detail: str, status: int) -> tuple[bytes, Headers]:
    return encode(Refusal(code=code, detail=detail, status=status)), {ERROR: "1"}


def _signer(seed: str) -> Callable[[str], bytes]:
    """Signs the server's nonce. The seed is base32: two prefix bytes, 32 bytes of key, two of checksum."""
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    key = nacl.signing.SigningKey(raw[2:34])

    def sign(nonce: str) -> bytes:
        return base64.b64encode(key.sign(nonce.encode()).signature)

    return sign


async def _close(client: Client) -> None:
    if client.is_connected:
        await pong(client, 2)
    # What could not be flushed nobody will have; nats-py would write it to a connection that is gone, fail, and leave
    # it half closed.
    client._pending, client._pending_data_size = [], 0  # noqa: SLF001
    already = cancels()
    try:
        with contextlib.suppress(OSError):
            await client.close()
    except asyncio.CancelledError:
        # A task of nats-py's that was cancelled while it waited for the connection's end cancels that wait for us too.
        heed_cancel(already)


async def _unsubscribe(subscription: Any) -> None:
    with contextlib.suppress(nats.errors.Error):
        await subscription.unsubscribe()


async def _drain(queue: asyncio.Queue[Message]) -> AsyncIterator[Message]:
    while True:
        yield await queue.get()


def connect(url: str, credential: Credential | None = None, *, name: str) -> AbstractAsyncContextManager[NatsBus]:
    """A connection under a name of its own; `name` shows in the server's monitoring."""
    return NatsBus.connect(url, credential, name=f"{name}-{random_id()[:6]}")
