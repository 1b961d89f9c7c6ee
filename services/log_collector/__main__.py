"""`python -m services.log_collector`"""

import asyncio
import sys

from services.log_collector.settings import Settings
from services.log_collector.wiring import serve
from shared.adapters.nats_bus import connect
from shared.adapters.s3_objects import S3Objects
from shared.credential import Credential
from shared.pulse import Pulse
from shared.run import run_service
from shared.settings import BusSettings, ObjectSettings


async def main() -> None:
    where = BusSettings()
    credential = Credential.from_file(where.nats_creds_file) if where.nats_creds_file else None
    async with (
        connect(where.nats_url, credential, name="log-collector") as bus,
        S3Objects.connect(ObjectSettings()) as objects,
    ):
        await serve(Settings(), bus, objects, asyncio.Event(), pulse=Pulse.of_environment())


if __name__ == "__main__":
    sys.exit(run_service("log-collector", main))
