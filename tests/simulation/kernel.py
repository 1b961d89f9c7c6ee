"""Virtual time, parties that die and freeze, and their tasks: generators that yield what they wait for."""

import heapq
from collections.abc import Callable, Generator
from random import Random
from typing import Any

START = 1_000_000.0
"""Virtual seconds since the epoch at which every history begins."""

Resume = Callable[[Any, BaseException | None], None]
Wait = tuple[Any, ...]
"""`(start, *arguments)`: `start(party, resume, *arguments)` calls `resume` once, later."""
Work = Generator[Wait, Any, Any]


class Kernel:
    """One history's event heap, its one source of chance, and its story."""

    def __init__(self, seed: int) -> None:
        self.now = START
        self.random = Random(seed)
        self.chance = self.random.random
        self.events = 0
        self.story: list[tuple[Any, ...]] = []
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, self._count, call, arguments))

    def run(self, until: float, over: Callable[[], bool]) -> bool:
        """Whether `over` became true before `until`. `over` is asked every few events."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(heap)
            self.events += 1
            call(*arguments)
            if not self.events & 7 and over():
                return True
        self.now = max(self.now, until)
        return over()

    def note(self, who: str, about: object, text: str, *values: object) -> None:
        """A line of the story; `about`: the (tenant, job) it concerns, None: everybody."""
        self.story.append((self.now, who, about, text, values))


class Group:
    """Tasks that end together, as those of a TaskGroup do."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


class Link:
    """A way to the bus, shared by the processes of one host."""

    __slots__ = ("cut",)

    def __init__(self) -> None:
        self.cut = False


class Party:
    """A process. What it had begun ends with it; while frozen (a stopped VM, a long pause) everything waits."""

    def __init__(self, kernel: Kernel, name: str, link: Link | None = None) -> None:
        self.kernel, self.name = kernel, name
        self.link = link or Link()
        self.alive = False
        self.life = 0
        self.frozen_until = 0.0

    def start(self) -> None:
        self.alive = True
        self.life += 1
        self.frozen_until = 0.0

    def kill(self) -> None:
        self.alive = False
        self.life += 1

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.kernel.after(seconds, self._fire, self.life, call, arguments)

    def _fire(self, life: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life != self.life:
            return
        if self.frozen_until > self.kernel.now:
            self.kernel.after(self.frozen_until - self.kernel.now, self._fire, life, call, arguments)
            return
        call(*arguments)

    def spawn(self, work: Work, group: Group | None = None, then: Resume | None = None) -> "Task":
        task = Task(self, work, group, then)
        task.go(None, None)
        return task

    def note(self, about: object, text: str, *values: object) -> None:
        self.kernel.story.append((self.kernel.now, self.name, about, text, values))


class Task:
    """Drives one generator. Ended silently with its party, its group, or by `cancel`."""

    __slots__ = ("_group", "_life", "_party", "_then", "_work", "cancelled")

    def __init__(self, party: Party, work: Work, group: Group | None, then: Resume | None) -> None:
        self._party, self._work, self._group, self._then = party, work, group, then
        self._life = party.life
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def go(self, value: Any, error: BaseException | None) -> None:
        if self.cancelled or self._life != self._party.life or (self._group is not None and self._group.over):
            return
        try:
            wait = self._work.send(value) if error is None else self._work.throw(error)
        except StopIteration as stop:
            if self._then is not None:
                self._then(stop.value, None)
        except Exception as broken:
            if self._then is None:
                raise
            self._then(None, broken)
        else:
            wait[0](self._party, self.go, *wait[1:])


def _sleep(party: Party, resume: Resume, seconds: float) -> None:
    party.after(seconds, resume, None, None)


def sleep(seconds: float) -> Wait:
    return (_sleep, seconds)


def _both(party: Party, resume: Resume, one: Work, other: Work, tasks: list[Task]) -> None:
    """As a TaskGroup of two: both results, or the first error, which cancels the other."""
    results: list[Any] = [None, None]
    left = 2

    def ended(index: int) -> Resume:
        def then(value: Any, error: BaseException | None) -> None:
            nonlocal left
            if left <= 0:
                return
            if error is not None:
                left = 0
                for task in tasks:
                    task.cancel()
                resume(None, error)
                return
            results[index] = value
            left -= 1
            if left == 0:
                resume(results, None)

        return then

    for index, work in enumerate((one, other)):
        task = Task(party, work, None, ended(index))
        tasks.append(task)
        task.go(None, None)


def both(one: Work, other: Work, tasks: list[Task]) -> Wait:
    """`tasks` gets the two, so that they can be cancelled."""
    return (_both, one, other, tasks)
