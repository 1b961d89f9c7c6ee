"""The gateway as a process of its own: `python -m services.gateway`."""

import asyncio
import sys

from services.gateway.settings import Settings
from services.gateway.wiring import serve
from shared.adapters.identity import Identity
from shared.adapters.service_bus import service_bus
from shared.run import run_service


async def main() -> None:
    settings = Settings()
    async with service_bus("gateway") as bus:
        await serve(settings, bus, Identity.load(settings.identity_dir), asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("gateway", main))
