"""A bus of the test's own: jobs of other tests would be placed too."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import BusServer
from tests.integration.scheduler.world import World, world


@pytest.fixture
async def w(fresh_bus_server: BusServer) -> AsyncIterator[World]:
    async with world(fresh_bus_server) as made:
        yield made
