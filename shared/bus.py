"""The bus as services see it. `shared.adapters.nats_bus.NatsBus` is the real one.

A handler that is called with a `Delivery` acknowledges only after its effects are done; a crash anywhere is a
redelivery.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from shared.stream import Bucket, Store, Stream
from shared.subject import Subject

Headers = Mapping[str, str]

CE_TYPE = "ce-type"
TRACEPARENT = "traceparent"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `seq` and `time_unix_ns` are the stream's; 0 for what was never stored."""

    subject: str
    data: bytes
    headers: Headers = field(default_factory=dict)
    seq: int = 0
    time_unix_ns: int = 0


class Delivery(Protocol):
    """A message of a work consumer, to be answered exactly once."""

    @property
    def message(self) -> Message: ...
    @property
    def times_delivered(self) -> int: ...
    async def ack(self) -> None: ...
    async def retry(self, delay_seconds: float) -> None: ...
    async def drop(self) -> None:
        """Never deliver again (it was buried)."""
        ...

    async def in_progress(self) -> None:
        """Restart the acknowledgement timer."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """The server's word that a message is stored."""

    seq: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    value: bytes
    revision: int
    deleted: bool = False


Responder = Callable[[Message], Awaitable[tuple[bytes, Headers]]]
"""Answers a request with (payload, headers). A raised OverspillError becomes a `Refusal`; anything else too, and is
logged.
"""


class KeyValue(Protocol):
    """One bucket. `revision` is the compare-and-set token; a lost race raises WrongSequence."""

    async def get(self, key: str) -> Entry | None: ...
    async def all(self) -> dict[str, Entry]: ...
    async def put(self, key: str, value: bytes) -> int: ...
    async def create(self, key: str, value: bytes, ttl_seconds: float | None = None) -> int:
        """Only if there is none (or it lapsed)."""
        ...

    async def update(self, key: str, value: bytes, revision: int, ttl_seconds: float | None = None) -> int: ...
    async def delete(self, key: str, revision: int | None = None) -> None: ...
    def watch(self) -> AsyncIterator[Entry]:
        """Every present entry, then every change; never ends. An outage, also one at the beginning, only delays it;
        after it present entries come again.
        """
        ...


class Bus(Protocol):
    """A connection with one party's credential.

    Everything raises Unavailable while the server can't be reached; writes raise OutcomeUnknown when sent but not
    confirmed.
    """

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
        """Store a message. `expect_seq`: the last sequence on this very subject must be it (0: none), else
        WrongSequence.

        The current trace context travels along.
        """
        ...

    async def notify(self, subject: Subject | str, data: bytes, headers: Headers | None = None) -> None:
        """Tell whoever listens; stored nowhere."""
        ...

    async def request(
        self, subject: Subject | str, data: bytes = b"", *, headers: Headers | None = None, timeout_seconds: float = 5.0
    ) -> Message:
        """Raises Unavailable when nobody answers in time, and the error a `Refusal` stands for (Rejected with its
        code).
        """
        ...

    def serve(self, subject: str, responder: Responder, *, queue: str = "") -> AbstractAsyncContextManager[None]:
        """Answer requests while the context lasts. Same `queue`: one of the group answers.

        It is entered once the server knows of it, which an outage only delays.
        """
        ...

    def listen(self, *subjects: str, limit: int = 65_536) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Core messages as they come, from when it is entered on, which raises Unavailable in an outage. Past `limit`
        waiting ones the oldest are dropped.
        """
        ...

    async def last(self, stream: Stream, subject: Subject | str) -> Message | None:
        """The newest message on exactly this subject, from the stream's leader."""
        ...

    async def last_each(self, stream: Stream, *filters: str) -> list[Message]:
        """The newest message of every subject that matches, in stream order, as of one instant."""
        ...

    def read(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        """What is stored now, from `from_seq` on, in order; ends at the stream's end of this instant."""
        ...

    def tail(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        """Every message from `from_seq` on, in order, none twice, none left out, for ever.

        Heals itself: a lost consumer, a gap, a restarted server only delay it.
        """
        ...

    def work(
        self,
        stream: Stream,
        name: str,
        *filters: str,
        ack_wait_seconds: float = 30.0,
        max_pending: int = 256,
        batch: int = 64,
    ) -> AsyncIterator[Delivery]:
        """A share of the stream's messages, each until acknowledged. `name` is the durable consumer's."""
        ...

    async def end_seq(self, stream: Stream) -> int:
        """The sequence of the newest message of the stream, 0 when it never had one."""
        ...

    async def first_seq(self, stream: Stream) -> int: ...

    async def purge(self, stream: Stream, subject: str) -> int:
        """Remove all messages on `subject` (may have wildcards); how many."""
        ...

    async def purge_through(self, stream: Stream, seq: int) -> int:
        """Remove every message up to and with `seq`, whatever its subject; how many."""
        ...

    async def store(self) -> Store:
        """As the server counts now."""
        ...

    def bucket(self, bucket: Bucket) -> KeyValue: ...

    @property
    def connected(self) -> bool: ...

    def on_reconnect(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever the connection came back."""
        ...
