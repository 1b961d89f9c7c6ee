"""The simulated bus: streams that keep what they acknowledged, and a network that keeps nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.errors import OutcomeUnknown, OverspillError, Unavailable, WrongSequence
from tests.simulation.kernel import Kernel, Party, Resume, Wait

ANSWER_SECONDS = 5.0
"""How long a request is waited for."""


class Stored(NamedTuple):
    seq: int
    at: float
    subject: tuple[Any, ...]
    fact: Any


@dataclass(frozen=True, slots=True)
class Weather:
    """Shares of all messages that meet a fate, and how slow the rest is."""

    lost: float = 0.0
    """Requests that never arrive."""
    untold: float = 0.0
    """Requests that arrive and whose answer doesn't."""
    late: float = 0.0
    """Requests that arrive after their sender gave them up."""
    missed: float = 0.0
    """Live pushes and beats that are dropped."""
    twice: float = 0.0
    """Facts, pushes and beats that come again, later."""
    slow: float = 0.0
    """Messages that take seconds instead of milliseconds."""

    @property
    def fine(self) -> bool:
        return not (self.lost or self.untold or self.late)


FINE = Weather()


class Stream:
    """Order and content as JetStream keeps them: sequences only grow, the last of a subject can be asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[Stored] = []
        self.last: dict[tuple[Any, ...], Stored] = {}
        self.gone: set[int] = set()
        self.tails: list[Tail] = []
        self.on_store: list[Callable[[Stored, Stored | None], None]] = []
        self._ids: set[str] = set()

    def store(
        self, kernel: Kernel, subject: tuple[Any, ...], fact: Any, expect: int | None = None, message_id: str = ""
    ) -> Stored:
        """Raises WrongSequence. What comes under the same id again is not stored again."""
        before = self.last.get(subject)
        if expect is not None and (before.seq if before else 0) != expect:
            raise WrongSequence(subject=subject, expected=expect)
        if message_id in self._ids and before is not None:
            return before
        if message_id:
            self._ids.add(message_id)
        stored = self.last[subject] = Stored(len(self.log) + 1, kernel.now, subject, fact)
        self.log.append(stored)
        for told in self.on_store:
            told(stored, before)
        for tail in self.tails:
            tail.wake()
        return stored

    def purge(self, subject: tuple[Any, ...]) -> bool:
        if self.last.pop(subject, None) is None:
            return False
        self.gone.update(stored.seq for stored in self.log if stored.subject == subject)
        return True

    def read(self, from_seq: int) -> list[Stored]:
        return [stored for stored in self.log[max(0, from_seq - 1) :] if stored.seq not in self.gone]


class Tail:
    """A follower's place in a stream: everything in order, none twice, at whatever delay."""

    def __init__(self, net: "Net", party: Party, stream: Stream, from_seq: int, take: Callable[[Stored], None]) -> None:
        self._net, self._party, self._stream, self._take = net, party, stream, take
        self._position = from_seq - 1
        self._life = party.life
        self._pending = False
        stream.tails.append(self)
        self.wake()

    def wake(self) -> None:
        if not self._pending and self._position < len(self._stream.log):
            self._pending = True
            self._party.kernel.after(self._net.delay(), self._pump)

    def _pump(self) -> None:
        party = self._party
        self._pending = False
        if party.life != self._life:
            self._stream.tails.remove(self)
            return
        if party.frozen_until > party.kernel.now or not self._net.reaches(party):
            self._pending = True
            party.kernel.after(max(0.5, party.frozen_until - party.kernel.now), self._pump)
            return
        for stored in self._stream.log[self._position :]:
            self._position = stored.seq
            if stored.seq not in self._stream.gone:
                self._take(stored)
                if party.life != self._life:
                    return


class Net:
    """All five streams, the lease, and what happens to messages on their way."""

    def __init__(self, kernel: Kernel, weather: Weather) -> None:
        self.kernel, self.weather = kernel, weather
        self.up = True
        self.jobs, self.evt, self.orders = Stream("JOBS"), Stream("EVT"), Stream("ORDERS")
        self.done, self.metrics = Stream("DONE"), Stream("METRICS")

    def reaches(self, party: Party) -> bool:
        return self.up and not party.link.cut

    def delay(self) -> float:
        chance = self.kernel.chance
        weather = self.weather
        if weather.slow and chance() < weather.slow:
            return 0.2 + 6.0 * chance() ** 2
        return 0.0005 + 0.004 * chance()

    def _request(
        self,
        party: Party,
        resume: Resume,
        perform: Callable[[], Any],
        unsure: type[Unavailable],
        seconds: float,
    ) -> None:
        if not self.reaches(party):
            party.after(0.005, resume, None, Unavailable(what="the bus", why="the connection is down"))
            return
        weather, kernel = self.weather, self.kernel
        if not weather.fine:
            fate = kernel.chance()
            if fate < weather.lost + weather.untold + weather.late:
                error = unsure(what="the bus", why="no answer in time")
                party.after(seconds, resume, None, error)
                if fate >= weather.lost + weather.untold:
                    kernel.after(seconds * (1 + 2 * kernel.chance()), self._unheard, perform)
                elif fate >= weather.lost:
                    kernel.after(self.delay(), self._unheard, perform)
                return
        there, back = self.delay(), self.delay()
        if there + back >= seconds:
            party.after(seconds, resume, None, unsure(what="the bus", why="no answer in time"))
            kernel.after(there, self._unheard, perform)
            return
        kernel.after(there, self._serve, party, party.life, resume, perform, back, (unsure, seconds))

    def _unheard(self, perform: Callable[[], Any]) -> None:
        if self.up:
            try:
                perform()
            except OverspillError:
                return  # nobody waits for the answer

    def _serve(
        self,
        party: Party,
        life: int,
        resume: Resume,
        perform: Callable[[], Any],
        back: float,
        failing: tuple[type[Unavailable], float],
    ) -> None:
        result, error = None, None
        if not self.reaches(party):
            error = failing[0](what="the bus", why="the connection broke")
        else:
            try:
                result = perform()
            except OverspillError as raised:
                error = raised
        if life == party.life:
            party.after(back, self._answer, party, resume, result, error, failing[0])

    def _answer(
        self, party: Party, resume: Resume, result: Any, error: BaseException | None, unsure: type[Unavailable]
    ) -> None:
        if error is None and not self.reaches(party):
            error = unsure(what="the bus", why="the connection broke")
        resume(result, error)

    # What parties wait for.

    def publish(
        self, stream: Stream, subject: tuple[Any, ...], fact: Any, expect: int | None = None, message_id: str = ""
    ) -> Wait:
        """The stored message. Raises WrongSequence, OutcomeUnknown, Unavailable."""
        return self.write(lambda: stream.store(self.kernel, subject, fact, expect, message_id))

    def write(self, perform: Callable[[], Any], seconds: float = ANSWER_SECONDS) -> Wait:
        return (self._request, perform, OutcomeUnknown, seconds)

    def ask(self, perform: Callable[[], Any], seconds: float = ANSWER_SECONDS) -> Wait:
        return (self._request, perform, Unavailable, seconds)

    def last(self, stream: Stream, subject: tuple[Any, ...]) -> Wait:
        return (self._request, lambda: stream.last.get(subject), Unavailable, ANSWER_SECONDS)

    def push(self, party: Party, call: Callable[..., None], *arguments: Any) -> None:
        """A core message: dropped, late, twice, in any order, or as it should be."""
        weather, chance = self.weather, self.kernel.chance
        for _ in range(2 if weather.twice and chance() < weather.twice else 1):
            if weather.missed and chance() < weather.missed:
                continue
            party.after(self.delay(), self._arrive, party, call, arguments)

    def _arrive(self, party: Party, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.reaches(party):
            call(*arguments)
