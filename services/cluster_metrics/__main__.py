"""`python -m services.cluster_metrics`"""

import asyncio
import sys

from services.cluster_metrics.settings import Settings
from services.cluster_metrics.wiring import serve
from shared.adapters.service_bus import service_bus
from shared.run import run_service


async def main() -> None:
    async with service_bus("cluster-metrics") as bus:
        await serve(Settings(), bus, asyncio.Event())


if __name__ == "__main__":
    sys.exit(run_service("cluster-metrics", main))
