"""The real object store keeps the contract."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.adapters.s3_objects import BadCredentialsFile, S3Objects
from shared.errors import Unavailable
from shared.ids import token_from
from shared.settings import ObjectSettings
from tests.contract.objects_contract import ObjectsContract


@pytest.fixture
def weed(object_store: ObjectSettings, request: pytest.FixtureRequest) -> ObjectSettings:
    return object_store.model_copy(update={"bucket": token_from(request.module.__name__)})


@pytest.fixture
async def objects(weed: ObjectSettings) -> AsyncIterator[S3Objects]:
    async with S3Objects.connect(weed) as objects:
        await objects.ensure_bucket()
        yield objects


class TestS3Objects(ObjectsContract):
    pass


async def test_a_bucket_is_made_once(weed: ObjectSettings) -> None:
    async with S3Objects.connect(weed.model_copy(update={"bucket": "another"})) as objects:
        await objects.ensure_bucket()
        await objects.ensure_bucket()
        await objects.put("k", b"v")


async def test_addresses_are_signed_for_the_public_url(weed: ObjectSettings) -> None:
    public = weed.url.replace("127.0.0.1", "localhost")
    async with S3Objects.connect(weed.model_copy(update={"public_url": public})) as objects:
        assert (await objects.presign("GET", "k", expires_seconds=60)).startswith(public)


async def test_a_store_that_is_away_is_unavailable(tmp_path: Path, weed: ObjectSettings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with S3Objects.connect(weed.model_copy(update={"url": url})) as objects:
            with pytest.raises(Unavailable, match="can't be reached"):
                await objects.put("k", b"v")


async def test_a_credentials_file_without_two_lines_says_what_it_needs(tmp_path: Path, weed: ObjectSettings) -> None:
    bad = tmp_path / "bad"
    bad.write_text("only-one\n")
    with pytest.raises(BadCredentialsFile, match="two lines"):
        async with S3Objects.connect(weed.model_copy(update={"credentials_file": bad})):
            pass
