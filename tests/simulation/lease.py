"""The lease: the bucket's key as the server keeps it, and an instance's view of it."""

from dataclasses import dataclass

from services.scheduler.lease import RENEWALS, USED
from shared.errors import OutcomeUnknown, Unavailable
from tests.simulation.cores import Cores
from tests.simulation.kernel import Kernel, Work
from tests.simulation.streams import Net


@dataclass(slots=True)
class LeaseKey:
    """Key `scheduler` of bucket LEASE: lapses by the server's clock, revisions only grow."""

    kernel: Kernel
    holder: str | None = None
    revision: int = 0
    until: float = 0.0

    def _stands(self) -> bool:
        return self.holder is not None and self.kernel.now < self.until

    def create(self, holder: str, seconds: float) -> int | None:
        if self._stands():
            return None
        return self._write(holder, seconds)

    def update(self, holder: str, revision: int, seconds: float) -> int | None:
        if not self._stands() or self.revision != revision:
            return None
        return self._write(holder, seconds)

    def _write(self, holder: str, seconds: float) -> int:
        self.holder, self.until = holder, self.kernel.now + seconds
        self.revision += 1
        return self.revision

    def revision_of(self, holder: str) -> int | None:
        return self.revision if self._stands() and self.holder == holder else None

    def delete(self, revision: int) -> None:
        if self._stands() and self.revision == revision:
            self.holder = None


class Lease:
    """Mirrors services/scheduler/lease.py; None where that one raises WrongSequence or LeaseLost."""

    def __init__(self, net: Net, key: LeaseKey, cores: Cores, holder: str, seconds: float) -> None:
        self._net, self._key, self._cores, self._holder, self._seconds = net, key, cores, holder, seconds
        self._now = net.kernel
        self._revision = 0
        self._until = 0.0

    def holds(self) -> bool:
        return self._cores.lease_holds(self._now.now, self._until)

    def truly_holds(self) -> bool:
        """By the server's clock, which only the simulation can read."""
        return self._key.revision_of(self._holder) is not None

    @property
    def pause(self) -> float:
        return self._seconds / RENEWALS

    def acquire(self, above_term: int) -> Work:
        """The term, or None while another holds it. Raises Unavailable."""
        since = self._now.now
        key, holder, seconds = self._key, self._holder, self._seconds
        try:
            revision = yield self._net.write(lambda: key.create(holder, seconds))
        except OutcomeUnknown:
            found = yield self._net.ask(lambda: key.revision_of(holder))
            since = self._now.now
            revision = None
            if found is not None:
                revision = yield self._net.write(lambda: key.update(holder, found, seconds))
        if revision is None:
            return None
        self._revision = revision
        self._until = since + seconds * USED
        return max(revision, above_term + 1)

    def renew(self) -> Work:
        """Whether it is still ours as far as we know."""
        since = self._now.now
        key, holder, seconds, known = self._key, self._holder, self._seconds, self._revision
        try:
            revision = yield self._net.write(lambda: key.update(holder, known, seconds), max(0.01, self._until - since))
        except Unavailable:
            return (yield from self._find_revision())
        if revision is None:
            self._until = 0.0
            return False
        self._revision = revision
        self._until = since + seconds * USED
        return True

    def _find_revision(self) -> Work:
        key, holder = self._key, self._holder
        try:
            revision = yield self._net.ask(lambda: key.revision_of(holder), max(0.01, self._until - self._now.now))
        except Unavailable:
            return True
        if revision is None:
            self._until = 0.0
            return False
        self._revision = revision
        return True

    def release(self) -> Work:
        self._until = 0.0
        key, holder = self._key, self._holder
        try:
            revision = yield self._net.ask(lambda: key.revision_of(holder), 0.5)
            if revision is not None:
                yield self._net.write(lambda: key.delete(revision), 0.5)
        except Unavailable:
            return  # it lapses
