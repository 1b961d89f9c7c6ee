"""The cache on a real bus, before a real object store."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from services.cache.model import EXPIRY_PREFIX, Marker, source_key, used_key
from services.cache.settings import Settings
from services.cache.sweep import sweep_due, sweep_logs
from services.cache.wiring import serve
from shared.adapters.nats_bus import NatsBus
from shared.adapters.s3_objects import S3Objects
from shared.clock import Instant, SystemClock
from shared.errors import OverspillError
from shared.flow import Ask, Job, Spec, Svc
from shared.ids import random_id
from shared.lifecycle import JobState
from shared.requests import (
    DownloadAsked,
    Presigned,
    SourceCheckAsked,
    SourceCheckTold,
    SourceUploadAsked,
    SourceUploadTold,
    UrlsAsked,
    UrlsTold,
)
from shared.spec import JobSpec
from shared.wire import M, Model, decode, encode
from tests.unit.cache.test_cache_policy import record, spec

DAY = 86_400
TREE = "cd" * 32


@pytest.fixture
async def asks(bus: NatsBus, objects: S3Objects) -> AsyncIterator[NatsBus]:
    ready = asyncio.Event()
    task = asyncio.create_task(serve(Settings(), bus, objects, ready))
    await asyncio.wait_for(ready.wait(), 10)
    yield bus
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def store_job(bus: NatsBus, job: str, epoch: int, what: JobSpec) -> None:
    placed = record(JobState.PLACED, epoch).model_copy(update={"job": job})
    await bus.publish(Spec("acme", job), what.canonical())
    await bus.publish(Job("acme", job), encode(placed))


async def ask(bus: NatsBus, op: str, question: Model, answer: type[M]) -> M:
    return decode(answer, (await bus.request(Svc("cache", op), encode(question))).data)


async def test_a_source_is_uploaded_once_and_then_known(asks: NatsBus, objects: S3Objects) -> None:
    question = SourceUploadAsked(tenant="acme", sha256=TREE, size_bytes=4)
    told = await ask(asks, "source-upload", question, SourceUploadTold)
    assert told.put is not None
    async with httpx.AsyncClient() as http:
        assert (await http.put(told.put.url, content=b"12345")).status_code == 403
        assert (await http.put(told.put.url, content=b"tree")).status_code == 200
    again = await ask(asks, "source-upload", question, SourceUploadTold)
    assert (again.exists, again.put, again.source) == (True, None, TREE)
    assert (await ask(asks, "source-check", SourceCheckAsked(tenant="acme", source=TREE), SourceCheckTold)).exists
    assert not (await ask(asks, "source-check", SourceCheckAsked(tenant="other", source=TREE), SourceCheckTold)).exists
    assert await objects.info(used_key("acme", TREE)) is not None


async def test_an_attempt_fetches_its_tree_and_stores_its_artifacts(asks: NatsBus, objects: S3Objects) -> None:
    job = random_id()
    await objects.put(source_key("acme", TREE), b"the tree")
    await store_job(asks, job, 2, spec(source={"tree": TREE}, artifacts=[{"name": "Räder ü", "paths": ["dist/*"]}]))
    answer = await asks.request(Ask("acme", job, 2, "urls"), encode(UrlsAsked(source=True, artifacts=["Räder ü"])))
    told = decode(UrlsTold, answer.data)
    assert told.source is not None
    artifact = told.artifacts["Räder ü"]
    async with httpx.AsyncClient() as http:
        assert (await http.get(told.source.url)).content == b"the tree"
        assert (await http.put(artifact.url, content=b"wheels")).status_code == 200
    download = await ask(
        asks, "download", DownloadAsked(tenant="acme", key=artifact.key, filename="Räder.tar.gz"), Presigned
    )
    async with httpx.AsyncClient() as http:
        assert (await http.get(download.url)).content == b"wheels"
    with pytest.raises(OverspillError) as refused:
        await ask(asks, "download", DownloadAsked(tenant="other", key=artifact.key), Presigned)
    assert refused.value.status == 404


async def test_an_attempt_that_is_not_current_gets_nothing(asks: NatsBus) -> None:
    job = random_id()
    await store_job(asks, job, 2, spec(source={"tree": TREE}))
    for epoch in (1, 3):
        with pytest.raises(OverspillError, match="not the current one") as refused:
            await asks.request(Ask("acme", job, epoch, "urls"), encode(UrlsAsked(source=True)))
        assert (refused.value.code, refused.value.status) == ("stale_attempt", 403)
    with pytest.raises(OverspillError, match="no artifact"):
        await asks.request(Ask("acme", job, 2, "urls"), encode(UrlsAsked(artifacts=["other"])))


@pytest.mark.parametrize("payload", [b"", b"{", b'{"source": 7}', b'{"artifacts": [1]}', b"\xff\x00"])
async def test_a_question_that_makes_no_sense_is_answered_with_why(asks: NatsBus, payload: bytes) -> None:
    with pytest.raises(OverspillError) as refused:
        await asks.request(Ask("acme", random_id(), 1, "urls"), payload)
    assert refused.value.code == "poison"


async def _markers(objects: S3Objects, key: str) -> list[str]:
    return [item.key async for item in objects.list(EXPIRY_PREFIX) if item.key.endswith(key)]


async def test_an_artifact_goes_when_it_has_expired_and_not_before(objects: S3Objects) -> None:
    now, key = SystemClock().now(), f"t/acme/artifacts/{random_id()}/1/wheel.tar.gz"
    await objects.put(key, b"wheel")
    marker = Marker.after(key, now, DAY)
    await objects.put(marker.path, marker.body())
    await sweep_due(objects, Instant(now + DAY / 2), 1000)
    assert await objects.info(key) is not None
    await sweep_due(objects, Instant(now + DAY + 7200), 1000)
    assert await objects.info(key) is None
    assert await _markers(objects, key) == []


async def test_a_source_that_was_used_meanwhile_lives_on(objects: S3Objects) -> None:
    now, sha256 = SystemClock().now(), "ef" * 32
    key = source_key("acme", sha256)
    await objects.put(key, b"tree")
    await objects.put(used_key("acme", sha256), b"")
    # As if it had been uploaded 14 days ago: its first look is due now, its last use was just now.
    due = Marker(key, int(now) - 10, 14 * DAY)
    await objects.put(due.path, due.body())
    await sweep_due(objects, now, 1000)
    assert await objects.info(key) is not None
    [later] = await _markers(objects, key)
    assert Marker.read(later).due_unix >= now + 14 * DAY - 10
    await sweep_due(objects, Instant(now + 15 * DAY), 1000)
    assert await objects.info(key) is None
    assert await objects.info(used_key("acme", sha256)) is None


async def test_an_upload_that_never_came_leaves_no_marker(objects: S3Objects) -> None:
    now, key = SystemClock().now(), source_key("acme", "12" * 32)
    marker = Marker(key, int(now) - 10, DAY)
    await objects.put(marker.path, marker.body())
    await sweep_due(objects, now, 1000)
    assert await _markers(objects, key) == []


async def test_logs_go_by_their_tenants_age(objects: S3Objects) -> None:
    now = SystemClock().now()
    mine, others = f"t/short/logs/{random_id()}/1/1/part", f"t/long/logs/{random_id()}/1/1/part"
    await objects.put(mine, b"x")
    await objects.put(others, b"x")
    assert await sweep_logs(objects, {"short": DAY, "long": 30 * DAY}, now + 2 * DAY) == 1
    assert await objects.info(mine) is None
    assert await objects.info(others) is not None


async def test_an_upload_that_broke_off_is_asked_for_again(asks: NatsBus, objects: S3Objects) -> None:
    sha256 = "34" * 32
    await objects.put(source_key("acme", sha256), b"")
    question = SourceUploadAsked(tenant="acme", sha256=sha256, size_bytes=4)
    assert (await ask(asks, "source-upload", question, SourceUploadTold)).put is not None
    assert not (await ask(asks, "source-check", SourceCheckAsked(tenant="acme", source=sha256), SourceCheckTold)).exists
