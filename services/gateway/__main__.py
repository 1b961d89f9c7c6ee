"""The gateway as a process of its own: `python -m services.gateway`."""

import asyncio
import sys

from services.gateway.settings import Settings
from services.gateway.wiring import serve
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import connect
from shared.credential import Credential
from shared.run import run_service
from shared.settings import BusSettings


async def main() -> None:
    settings, at = Settings(), BusSettings()
    credential = Credential.from_file(at.nats_creds_file) if at.nats_creds_file else None
    async with connect(at.nats_url, credential, name="gateway") as bus:
        await serve(settings, bus, Identity.load(settings.identity_dir), asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("gateway", main))
