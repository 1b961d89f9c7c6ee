"""`python -m services.cache`"""

import asyncio
import sys

from services.cache.settings import Settings
from services.cache.wiring import serve
from shared.adapters.s3_objects import S3Objects
from shared.adapters.service_bus import service_bus
from shared.backoff import until_available
from shared.run import run_service
from shared.settings import ObjectSettings


async def main() -> None:
    async with service_bus("cache") as bus, S3Objects.connect(ObjectSettings()) as objects:
        await until_available("the object store", objects.ensure_bucket)
        await serve(Settings(), bus, objects, asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("cache", main))
