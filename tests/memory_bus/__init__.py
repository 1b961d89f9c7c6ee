"""`shared.bus.Bus` in memory: for tests that drive handlers through thousands of twists. It keeps the contract suite in
tests/contract, as the real one does.
"""

from tests.memory_bus.bus import MemoryBus
from tests.memory_bus.server import MemoryServer, Twist

__all__ = ["MemoryBus", "MemoryServer", "Twist"]
