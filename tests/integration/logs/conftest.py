"""One bus, gateway and object store for a test; the collector comes and goes as the test wants."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.s3_objects import S3Objects
from shared.ids import random_id
from shared.settings import ObjectSettings
from tests.conftest import BusServer
from tests.integration.gateway.conftest import running
from tests.integration.logs.machine import Place
from tests.integration.runner.hub import HUB


@pytest.fixture
def weed(object_store: ObjectSettings) -> ObjectSettings:
    return object_store.model_copy(update={"bucket": f"logs-{random_id()[:8]}"})


@pytest.fixture
async def place(fresh_bus_server: BusServer, weed: ObjectSettings, tmp_path: Path) -> AsyncIterator[Place]:
    server = fresh_bus_server
    (tmp_path / "attempts").mkdir()
    async with AsyncExitStack() as stack:

        async def hub_bus(party: Any) -> Any:
            return await stack.enter_async_context(server.connect(server.identity.credential(party)))

        objects = await stack.enter_async_context(S3Objects.connect(weed))
        await objects.ensure_bucket()
        gateway = await stack.enter_async_context(running(server, hub_bus, tmp_path))
        place = Place(server, gateway, objects, tmp_path / "attempts", await hub_bus(HUB))
        try:
            yield place
        finally:
            place.close()
