"""`python -m services.scheduler`"""

import asyncio
import sys

from services.scheduler.settings import Settings
from services.scheduler.wiring import serve
from shared.adapters.service_bus import service_bus
from shared.run import run_service


async def main() -> None:
    async with service_bus("scheduler") as bus:
        await serve(Settings(), bus, asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("scheduler", main))
