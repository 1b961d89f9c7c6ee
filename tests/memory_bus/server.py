"""What the parties' buses share: streams, buckets, subscriptions. Everything declared in shared.flow is there."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from shared import flow
from shared.bus import Headers, Message, Responder, Stored
from shared.errors import Unavailable
from shared.stream import Stream
from tests.memory_bus.keys import Keys
from tests.memory_bus.stored import Log
from tests.memory_bus.subjects import mapped, matches


@dataclass(slots=True)
class Twist:
    """What happens to the next messages. The calm one: nothing."""

    writes: list[str] = field(default_factory=list)
    """Fates of the next writes: `ok`, `lost` (never stored, no answer), `untold` (stored, no answer)."""
    pushes: list[int] = field(default_factory=list)
    """How often the next live messages arrive."""
    held: set[str] = field(default_factory=set)
    """Streams whose tails bring nothing for the time being."""
    unsourced: bool = False
    """Copies into other streams come later."""

    def fate(self) -> str:
        return self.writes.pop(0) if self.writes else "ok"

    def copies(self) -> int:
        return self.pushes.pop(0) if self.pushes else 1


@dataclass(slots=True, eq=False)
class Subscription:
    pattern: str
    queue: str
    connected: Callable[[], bool]
    take: Callable[[Message], None] | None = None
    answer: "Callable[[Message], asyncio.Task[tuple[bytes, Headers] | BaseException]] | None" = None


class MemoryServer:
    """`now`: seconds since the epoch. One event loop, no threads."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.now = now or (lambda: asyncio.get_running_loop().time())
        self.twist = Twist()
        self.logs = {stream.name: Log(stream, self.now) for stream in flow.STREAMS}
        self.buckets = {bucket.name: Keys(self.now) for bucket in flow.BUCKETS}
        self.subscriptions: list[Subscription] = []
        self._turn = 0
        self._sourced: dict[str, int] = {}

    def log_of(self, subject: str) -> Log:
        for log in self.logs.values():
            if any(matches(pattern, subject) for pattern in log.declared.subjects):
                return log
        raise Unavailable(what=f"the stream of {subject}", why="no stream takes it now")

    def store(self, subject: str, data: bytes, headers: Headers, expect: int | None, message_id: str | None) -> Stored:
        log = self.log_of(subject)
        declared = log.declared
        at = mapped(*declared.transform, subject) if declared.transform else None
        stored = log.store(Message(at or subject, data, headers), expect, message_id)
        if not stored.duplicate:
            self._republish(declared, log.messages[stored.seq])
            self.source()
        return stored

    def _republish(self, declared: Stream, message: Message) -> None:
        if declared.republish is not None:
            to = mapped(*declared.republish, message.subject)
            if to is not None:
                self.push(Message(to, message.data, {**message.headers, "Nats-Sequence": str(message.seq)}))

    def source(self) -> None:
        """Copy what streams source from others, in order."""
        if self.twist.unsourced:
            return
        for log in self.logs.values():
            if log.declared.sources is None:
                continue
            name, pattern, destination = log.declared.sources
            origin = self.logs[name]
            for message in list(origin.since(self._sourced.get(log.declared.name, 0) + 1, (pattern,))):
                self._sourced[log.declared.name] = message.seq
                subject = mapped(pattern, destination, message.subject)
                headers = {**message.headers, "Nats-Stream-Source": f"{name} {message.seq} {pattern} {destination}"}
                copied = log.store(Message(subject or message.subject, message.data, headers), None, None)
                self._republish(log.declared, log.messages[copied.seq])

    def push(self, message: Message) -> None:
        """To whoever listens: as often as the twist says."""
        groups: dict[str, list[Subscription]] = {}
        for subscription in self.subscriptions:
            if subscription.take and subscription.connected() and matches(subscription.pattern, message.subject):
                groups.setdefault(subscription.queue or str(id(subscription)), []).append(subscription)
        for members in groups.values():
            for _ in range(self.twist.copies()):
                taker = members[0].take
                if taker is not None:
                    taker(message)

    def responder(self, subject: str) -> Subscription | None:
        """One of those who serve it, in turn."""
        serving = [
            one for one in self.subscriptions if one.answer and one.connected() and matches(one.pattern, subject)
        ]
        self._turn += 1
        return serving[self._turn % len(serving)] if serving else None

    def wake(self) -> None:
        """Whoever waits for streams looks again."""
        for log in self.logs.values():
            log.wake()


__all__ = ["MemoryServer", "Responder", "Subscription", "Twist"]
