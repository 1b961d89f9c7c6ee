"""What of the behaviour suite is the entrypoint's alone, whoever makes its containers: with one runtime. As root."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.behaviour.conftest import server as server  # noqa: PLC0414 - a fixture of this module too
from tests.behaviour.test_steps import (  # noqa: F401 - run here, in this module's place
    test_a_hundred_steps_run_in_turn_each_with_its_own_log,
    test_every_exit_code_is_told_as_it_was,
)
from tests.conftest import BusServer
from tests.node import podman
from tests.node.containers import ContainerPlace, Store, container_place

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("store", [podman], indirect=True, ids=["podman"]),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    server: BusServer, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ContainerPlace]:
    async with container_place(server, tmp_path_factory.mktemp("place"), store) as made:
        yield made
