"""`python -m services.log_collector`"""

import asyncio
import sys

from services.log_collector.settings import Settings
from services.log_collector.wiring import serve
from shared.adapters.s3_objects import S3Objects
from shared.adapters.service_bus import service_bus
from shared.pulse import Pulse
from shared.run import run_service
from shared.settings import ObjectSettings


async def main() -> None:
    async with service_bus("log-collector") as bus, S3Objects.connect(ObjectSettings()) as objects:
        await serve(Settings(), bus, objects, asyncio.Event(), pulse=Pulse.of_environment())


if __name__ == "__main__":
    sys.exit(run_service("log-collector", main))
