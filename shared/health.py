"""How a service of the hub says that it is there: it answers `svc.<service>.health`."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from pydantic import Field

from shared.bus import Bus, Headers, Message
from shared.flow import Svc
from shared.version import VERSION
from shared.wire import Model, encode

OP = "health"
STORE = "store"
"""Op of the cache: how the object store is."""
Complaints = Callable[[], Awaitable[list[str]]]
"""What is wrong as the service sees it, a line each that names the remedy; nothing when all is well."""


class HealthTold(Model):
    version: str
    since_unix: float
    """When the instance that answers began to."""
    complaints: list[str] = Field(default_factory=list, max_length=20)


async def no_complaints() -> list[str]:
    return []


def healthy(
    bus: Bus, service: str, complaints: Complaints = no_complaints, op: str = OP
) -> AbstractAsyncContextManager[None]:
    """Answer while the context lasts. One instance of several answers."""
    since = time.time()

    async def answer(_: Message) -> tuple[bytes, Headers]:
        return encode(HealthTold(version=VERSION, since_unix=since, complaints=await complaints())), {}

    return bus.serve(str(Svc(service, op)), answer, queue=service)
