"""The promises of `shared.bus.KeyValue`, kept by the real one and by its double in memory."""

import pytest

from tests.contract.key_value_contract import KeyValueContract
from tests.memory_bus import MemoryBus, MemoryServer


class TestNatsKeyValue(KeyValueContract):
    """The real one."""


class TestMemoryKeyValue(KeyValueContract):
    @pytest.fixture
    async def bus(self) -> MemoryBus:
        return MemoryBus(MemoryServer())
