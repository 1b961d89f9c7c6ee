"""`python -m services.cluster_metrics`"""

import asyncio
import sys

from services.cluster_metrics.settings import Settings
from services.cluster_metrics.wiring import serve
from shared.adapters.nats_bus import connect
from shared.credential import Credential
from shared.run import run_service
from shared.settings import BusSettings


async def main() -> None:
    where = BusSettings()
    credential = Credential.from_file(where.nats_creds_file) if where.nats_creds_file else None
    async with connect(where.nats_url, credential, name="cluster-metrics") as bus:
        await serve(Settings(), bus, asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("cluster-metrics", main))
