from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.settings import ObjectSettings
from tests.conftest import BusServer
from tests.integration.doors.hub import Hub, hub_on


@pytest.fixture
async def hub(fresh_bus_server: BusServer, object_store: ObjectSettings, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub of the test's own."""
    async with hub_on(fresh_bus_server, object_store, tmp_path) as made:
        yield made
