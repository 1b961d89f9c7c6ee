"""`python -m runner.controller`: settings, connections to bus and cluster, then `wiring.serve`."""

import asyncio
import sys

import structlog

from runner.controller.settings import Settings
from runner.controller.wiring import serve
from shared.adapters.kube_api import KubeServer
from shared.adapters.nats_bus import connect
from shared.credential import Credential
from shared.errors import Unavailable
from shared.pulse import Pulse
from shared.run import run_service
from shared.settings import BusSettings

RECONNECT_SECONDS = 1.0


async def main() -> None:
    settings, where = Settings(), BusSettings()
    credential = Credential.from_file(where.nats_creds_file) if where.nats_creds_file else None
    pulse = Pulse.of_environment()
    async with KubeServer.connect(settings.kubeconfig) as api:
        while True:
            pulse.beat()
            try:
                async with connect(where.nats_url, credential, name=f"controller-{settings.cluster}") as bus:
                    await serve(settings, bus, api, asyncio.Event(), pulse)
            except Unavailable as error:
                structlog.get_logger().info("bus_waits", why=str(error))
                await asyncio.sleep(RECONNECT_SECONDS)


if __name__ == "__main__":
    sys.exit(run_service("controller", main))
