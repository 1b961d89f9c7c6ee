"""Who waits for news of a job, in this process. News is only a wake-up: whoever is woken reads the projection."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from services.gateway.refusals import TooManyFollowers, TooManyOfYours

JobKey = tuple[str, str]
"""(tenant, job)"""


class Listener(Protocol):
    def tell(self) -> None:
        """Something about the job changed. Must not block."""
        ...


class News:
    """A listener to wait with."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """True when there was news since the last call."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Followers:
    """Bounded in all, per tenant and per job."""

    def __init__(self, limit: int, limit_of_tenant: int, limit_of_job: int) -> None:
        self._limit, self._limit_of_tenant, self._limit_of_job = limit, limit_of_tenant, limit_of_job
        self._of_tenant: Counter[str] = Counter()
        self._listeners: dict[JobKey, set[Listener]] = {}
        self.closed = asyncio.Event()
        """Set when the gateway ends."""

    @contextmanager
    def follow(self, key: JobKey, listener: Listener) -> Iterator[None]:
        """The listener is told of every change from now on. Raises TooManyFollowers."""
        self.check(key)
        of_job = self._listeners.setdefault(key, set())
        of_job.add(listener)
        self._of_tenant[key[0]] += 1
        try:
            yield
        finally:
            self._of_tenant[key[0]] -= 1
            if not self._of_tenant[key[0]]:
                del self._of_tenant[key[0]]
            of_job.discard(listener)
            if not of_job and self._listeners.get(key) is of_job:
                del self._listeners[key]

    def check(self, key: JobKey) -> None:
        """One more may follow. Raises TooManyFollowers."""
        if self._of_tenant.total() >= self._limit:
            raise TooManyFollowers(what="this gateway", why=f"the limit is {self._limit}")
        if self._of_tenant[key[0]] >= self._limit_of_tenant:
            raise TooManyOfYours(what=f"tenant {key[0]}", why=f"the limit is {self._limit_of_tenant}")
        if len(self._listeners.get(key, ())) >= self._limit_of_job:
            raise TooManyOfYours(what=f"job {key[1]}", why=f"the limit is {self._limit_of_job}")

    def tell(self, keys: Iterable[JobKey]) -> None:
        for key in keys:
            for listener in tuple(self._listeners.get(key, ())):
                listener.tell()

    @property
    def closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        """The gateway ends: every stream ends by itself, its client resumes elsewhere."""
        self.closed.set()
        for of_job in self._listeners.values():
            for listener in of_job:
                listener.tell()
