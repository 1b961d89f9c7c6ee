"""One stream and one durable consumer, as the server keeps them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shared.bus import Message, Stored
from shared.errors import Rejected, WrongSequence
from shared.stream import Stream
from tests.memory_bus.subjects import matches


class Log:
    """Messages by sequence; the last of a subject; message ids for as long as they count."""

    def __init__(self, declared: Stream, now: Callable[[], float]) -> None:
        self.declared = declared
        self.messages: dict[int, Message] = {}
        self.consumers: dict[str, Consumer] = {}
        self.end = 0
        self._last: dict[str, int] = {}
        self._ids: dict[str, tuple[int, float]] = {}
        self._now = now
        self._grown: set[asyncio.Event] = set()

    @property
    def first(self) -> int:
        return min(self.messages, default=self.end + 1)

    def store(self, message: Message, expect: int | None, message_id: str | None) -> Stored:
        """Raises WrongSequence, Rejected. The expectation is looked at before the id, as the server does."""
        if len(message.data) > self.declared.max_message_bytes:
            raise Rejected(why=f"the message for {message.subject} is too large")
        if expect is not None and self._last.get(message.subject, 0) != expect:
            raise WrongSequence(subject=message.subject, expected=expect)
        known = self._ids.get(message_id) if message_id else None
        if known is not None and self._now() - known[1] < self.declared.duplicate_window_seconds:
            return Stored(known[0], duplicate=True)
        self.end += 1
        before = self._last.get(message.subject)
        self.messages[self.end] = Message(
            message.subject, message.data, message.headers, self.end, int(self._now() * 1e9)
        )
        self._last[message.subject] = self.end
        if self.declared.last_only and before is not None:
            self.messages.pop(before, None)
        if message_id:
            self._ids[message_id] = (self.end, self._now())
        self.wake()
        return Stored(self.end)

    def last(self, subject: str) -> Message | None:
        seq = self._last.get(subject)
        return None if seq is None else self.messages.get(seq)

    def last_each(self, filters: tuple[str, ...]) -> list[Message]:
        found = [self.messages[seq] for subject, seq in self._last.items() if seq in self.messages]
        return sorted((message for message in found if wanted(filters, message)), key=lambda message: message.seq)

    def since(self, seq: int, filters: tuple[str, ...]) -> Iterator[Message]:
        return (m for number, m in self.messages.items() if number >= seq and wanted(filters, m))

    def remove(self, seq: int) -> None:
        message = self.messages.pop(seq, None)
        if message is not None and self._last.get(message.subject) == seq:
            del self._last[message.subject]

    def purge(self, subject: str) -> int:
        gone = [seq for seq, message in self.messages.items() if matches(subject, message.subject)]
        for seq in gone:
            self.remove(seq)
        return len(gone)

    def purge_through(self, end: int) -> int:
        gone = [seq for seq in self.messages if seq <= end]
        for seq in gone:
            self.remove(seq)
        return len(gone)

    def wake(self) -> None:
        for event in self._grown:
            event.set()

    async def grown(self, seconds: float | None = None) -> None:
        """Until something is stored, someone calls `wake`, or the time is up."""
        event = asyncio.Event()
        self._grown.add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._grown.discard(event)


def wanted(filters: tuple[str, ...], message: Message) -> bool:
    return not filters or any(matches(pattern, message.subject) for pattern in filters)


@dataclass(slots=True)
class Consumer:
    """A durable one: what was handed out and not acknowledged comes again when its time is up."""

    filters: tuple[str, ...]
    ack_wait_seconds: float
    max_pending: int
    position: int = 0
    pending: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Sequence: (when it comes again, how often it came)."""

    def take(self, log: Log, now: float) -> tuple[Message, int] | None:
        """The next message to deliver, and which delivery of it this is."""
        for seq, (due, times) in sorted(self.pending.items()):
            if seq not in log.messages:
                del self.pending[seq]
            elif due <= now:
                self.pending[seq] = (now + self.ack_wait_seconds, times + 1)
                return log.messages[seq], times + 1
        if len(self.pending) >= self.max_pending:
            return None
        for message in log.since(self.position + 1, self.filters):
            self.position = message.seq
            self.pending[message.seq] = (now + self.ack_wait_seconds, 1)
            return message, 1
        return None

    def next_due(self) -> float | None:
        return min((due for due, _ in self.pending.values()), default=None)
