"""How attempts run on this machine, as the agent sees it: as processes, or in containers."""

from collections.abc import Callable
from typing import Protocol

from runner.agent.claiming import Began, Claims
from runner.agent.custody import Custody, Means
from runner.agent.model import Key, Local
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import groups
from runner.protocol.words import CancelWord
from shared.errors import Rejected
from shared.facts.order import Order
from shared.needs import Needs
from shared.requests import Grant
from shared.spec import JobSpec


class NoContainers(Rejected):
    """Step {step} names an image, and this machine runs steps as processes: send the job to one that has containers."""

    code = "no_containers"


class Keeping(Protocol):
    """One attempt that is laid out. `run` returns when nothing needs its directory any more."""

    @property
    def key(self) -> Key: ...

    @property
    def needs(self) -> Needs: ...

    @property
    def local(self) -> Local: ...

    def begin(self) -> None:
        """Start a fresh attempt. Raises OSError, and nothing of it runs."""
        ...

    def forsake(self, why: str) -> None:
        """The machine was restarted since: nothing of it is gone on with."""
        ...

    async def run(self) -> None: ...
    def end(self, word: CancelWord) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...

    def stop(self) -> None:
        """The machine goes: end what runs, as nobody's wish."""
        ...

    async def abandon(self) -> None:
        """The machine keeps us from keeping it: leave nothing running."""
        ...


class Site(Protocol):
    """What differs between processes and containers."""

    def check(self, grant: Grant) -> None:
        """Raises Rejected for a job that can't be here."""
        ...

    def lay_out(self, order: Order, grant: Grant, began: Began) -> AttemptDir:
        """Blocking. Raises Unrunnable, OSError."""
        ...

    def keep(self, key: Key, needs: Needs, directory: AttemptDir, spec: JobSpec) -> Keeping: ...

    async def sweep(self, is_here: Callable[[str], bool]) -> None:
        """Take away what former agents left of attempts that are not here."""
        ...

    def forget(self, name: str) -> None:
        """What an attempt has besides its directory, once nothing of it runs."""
        ...

    def close(self) -> None: ...


class Processes:
    """Steps run as the agent's own user, in control groups where they can be made."""

    def __init__(self, claims: Claims, means: Means) -> None:
        self._claims, self._means = claims, means

    def check(self, grant: Grant) -> None:
        for number, step in enumerate(grant.spec.steps, start=1):
            if step.image is not None:
                raise NoContainers(step=number)

    def lay_out(self, order: Order, grant: Grant, began: Began) -> AttemptDir:
        return self._claims.lay_out(order, grant, began)

    def keep(self, key: Key, needs: Needs, directory: AttemptDir, spec: JobSpec) -> Keeping:
        return Custody(key, needs, directory, groups(spec), self._means)

    async def sweep(self, is_here: Callable[[str], bool]) -> None:
        for name in self._means.cgroups.names():
            if not is_here(name):
                self._means.cgroups.remove(name)

    def forget(self, name: str) -> None:
        self._means.cgroups.remove(name)

    def close(self) -> None:
        self._means.tellers.close()
        self._means.cgroups.close()
