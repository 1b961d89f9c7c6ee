"""A real bus without accounts and a real object store."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision
from shared.adapters.s3_objects import S3Objects
from shared.settings import ObjectSettings
from tests.contract.conftest import Server
from tests.integration.s3.weed import running_weed


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectSettings]:
    with running_weed(tmp_path_factory.mktemp("weed")) as settings:
        yield settings


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(nats: Server) -> AsyncIterator[NatsBus]:
    async with NatsBus.connect(nats.url, name="test") as bus:
        await provision(bus)
        yield bus


@pytest.fixture
async def objects(weed: ObjectSettings) -> AsyncIterator[S3Objects]:
    async with S3Objects.connect(weed) as objects:
        await objects.ensure_bucket()
        yield objects
