"""`python -m services.scheduler`"""

import asyncio
import sys

from services.scheduler.settings import Settings
from services.scheduler.wiring import serve
from shared.adapters.nats_bus import connect
from shared.credential import Credential
from shared.run import run_service
from shared.settings import BusSettings


async def main() -> None:
    where = BusSettings()
    credential = Credential.from_file(where.nats_creds_file) if where.nats_creds_file else None
    async with connect(where.nats_url, credential, name="scheduler") as bus:
        await serve(Settings(), bus, asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("scheduler", main))
