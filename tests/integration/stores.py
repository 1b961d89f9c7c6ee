"""Fixtures of a real bus without accounts and a real object store: for services that are tried without the others."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision
from shared.adapters.s3_objects import S3Objects
from shared.ids import token_from
from shared.settings import ObjectSettings
from tests.contract.conftest import Server


@pytest.fixture
def weed(object_store: ObjectSettings, request: pytest.FixtureRequest) -> ObjectSettings:
    """A bucket of the module's own: sweeps go through all of it."""
    return object_store.model_copy(update={"bucket": token_from(request.module.__name__)})


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
