"""How a process of its own comes to the bus: by what `BusSettings` says, however long that takes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from shared.adapters.nats_bus import NatsBus, connect
from shared.backoff import until_available
from shared.credential import Credential
from shared.pulse import Pulse
from shared.settings import BusSettings


@asynccontextmanager
async def service_bus(name: str) -> AsyncIterator[NatsBus]:
    """A bus that does not answer yet, or refuses the credential, is asked again; the file is read anew each time."""
    where, pulse = BusSettings(), Pulse.of_environment()
    async with AsyncExitStack() as stack:

        async def reach() -> NatsBus:
            pulse.beat()
            credential = Credential.from_file(where.nats_creds_file) if where.nats_creds_file else None
            return await stack.enter_async_context(connect(where.nats_url, credential, name=name))

        yield await until_available("the bus", reach)
