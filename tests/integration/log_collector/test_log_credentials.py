"""With nothing but the credentials of their own parties, runner, collector, cache and gateway do what they must."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from services.cache.settings import Settings as CacheSettings
from services.cache.wiring import serve as serve_cache
from services.log_collector.model import LogId
from shared.adapters.s3_objects import S3Objects
from shared.flow import Ask, Job, Spec, Svc
from shared.ids import random_id
from shared.lifecycle import JobState
from shared.parties import CACHE, GATEWAY, LOG_COLLECTOR, attempt_party
from shared.requests import ForgetAsked, ForgetTold, SourceCheckAsked, SourceCheckTold, UrlsAsked, UrlsTold
from shared.wire import decode, encode
from tests.integration.log_collector.steps import Step, collecting, quick, read_all
from tests.unit.cache.test_cache_policy import record, spec


async def test_a_log_from_the_runner_to_the_reader(hub_bus: Callable[..., Any], objects: S3Objects) -> None:
    job = random_id()
    gateway, collector = await hub_bus(GATEWAY), await hub_bus(LOG_COLLECTOR)
    runner = await hub_bus(attempt_party("t1", job, 1), tenant="t1")
    async with collecting(quick(), collector, objects):
        step = Step(runner, LogId("t1", job, 1, 1))
        await step.say(b"from the edge\n" * 10_000)
        await step.end()
        await step.until_complete()
        data, told = await read_all(gateway, step.id)
        assert (data, told.verified) == (b"from the edge\n" * 10_000, True)
        await runner.publish(step.id.subject, b"no chunk", headers={"Overspill-Offset": "x"})
        forgotten = await gateway.request(Svc("log-collector", "forget"), encode(ForgetAsked(tenant="t1", job=job)))
        assert decode(ForgetTold, forgotten.data).objects > 0


async def test_addresses_for_an_attempt(hub_bus: Callable[..., Any], objects: S3Objects) -> None:
    job, tree, ready = random_id(), "56" * 32, asyncio.Event()
    gateway, cache = await hub_bus(GATEWAY), await hub_bus(CACHE)
    runner = await hub_bus(attempt_party("t1", job, 1), tenant="t1")
    placed = record(JobState.PLACED, 1).model_copy(update={"job": job, "tenant": "t1"})
    await gateway.publish(Spec("t1", job), spec(source={"tree": tree}).canonical())
    await gateway.publish(Job("t1", job), encode(placed))
    task = asyncio.create_task(serve_cache(CacheSettings(), cache, objects, ready))
    await asyncio.wait_for(ready.wait(), 10)
    answer = await runner.request(Ask("t1", job, 1, "urls"), encode(UrlsAsked(source=True)))
    assert decode(UrlsTold, answer.data).source is not None
    asked = encode(SourceCheckAsked(tenant="t1", source=tree))
    answer = await gateway.request(Svc("cache", "source-check"), asked)
    assert not decode(SourceCheckTold, answer.data).exists
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
