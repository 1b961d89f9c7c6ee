"""What a job does where it runs, as an interface: a machine, a pod."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from shared.facts import AttemptEnded, Order, StepEnded
from tests.integration.runner.hub import Hub

GRACE_SECONDS = 1.0
"""Between SIGTERM and SIGKILL, in every place of this suite."""
MEMORY_BYTES = 64 << 20
"""What a job of `submit_small` may take."""


class Run(Protocol):
    """One job, submitted. Whatever waits here has generous bounds and ends on an event."""

    hub: Hub
    order: Order

    @property
    def directory(self) -> Path:
        """The attempt's."""
        ...

    async def ended(self) -> AttemptEnded:
        """The verdict."""
        ...

    async def step(self, number: int) -> StepEnded:
        """How the step ended."""
        ...

    async def log(self, number: int) -> bytes: ...

    async def said(self, number: int, words: bytes) -> None:
        """Until the step's log holds these words."""
        ...

    async def cancel(self) -> None: ...

    def drained(self) -> AbstractAsyncContextManager[None]:
        """What it runs on is drained, with no time for what runs; at the end of this it takes work again."""
        ...

    async def left(self) -> list[str]:
        """Once the place says that it has nothing more of the job: what still runs of it, one line a process."""
        ...


class Place(Protocol):
    hub: Hub
    loopback: str
    """Under which a job's step-ctl reaches what listens on this machine's loopback."""

    async def submit(self, spec: dict[str, Any], *, timeout_seconds: float = 600.0) -> Run: ...
