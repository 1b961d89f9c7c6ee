"""Cancelled in every state, twice, from two sides: one truthful end, soon, and nothing left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from shared.facts import AttemptEnded, Desired
from shared.flow import Ask
from shared.requests import Presigned, UrlsAsked, UrlsTold
from tests.behaviour.place import Place
from tests.integration.runner.hub import PATIENCE_SECONDS
from tests.integration.runner.waiting import until_there

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT = "echo on; sleep 1000"


def end_of(ended: AttemptEnded) -> tuple[str, str]:
    return ended.outcome, ended.reason.value


CANCELLED = ("cancelled", "cancelled")


async def test_a_running_step_is_ended_and_no_other_begins(place: Place) -> None:
    run = await place.submit({"steps": [{"run": WAIT}, {"run": "echo never", "if": "always()"}]})
    await run.said(1, b"on\n")
    await run.cancel()
    assert end_of(await run.ended()) == CANCELLED
    assert ((await run.step(1)).state, (await run.step(2)).state) == ("cancelled", "skipped")
    assert await run.left() == []


async def test_cancelled_twice_and_again_after_its_end_it_has_one_end(place: Place) -> None:
    run = await place.submit({"steps": [{"run": f"trap 'sleep 0.3; exit 3' TERM; {WAIT} & wait"}]})
    await run.said(1, b"on\n")
    await asyncio.gather(run.cancel(), run.cancel())
    ended = await run.ended()
    await run.cancel()
    assert await run.left() == []
    assert (end_of(ended), (await run.step(1)).exit_code) == (CANCELLED, 3)
    assert (await place.hub.kinds(run.order.job)).count("attempt-ended") == 1


async def test_a_job_that_has_ended_well_stays_so(place: Place) -> None:
    run = await place.submit({"steps": [{"run": "true"}]})
    ended = await run.ended()
    await run.cancel()
    assert await run.left() == []
    assert await run.ended() == ended
    assert end_of(ended) == ("succeeded", "all_steps_ok")


async def test_between_two_steps_nothing_more_begins(place: Place) -> None:
    run = await place.submit(
        {"steps": [{"run": "echo on; while [ ! -e over ]; do sleep 0.02; done"}, {"run": "echo never"}]}
    )
    await run.said(1, b"on\n")
    await place.hub.change(run.order, desired=Desired.HOLD)
    await until_there(run.directory / "hold")
    (run.directory / "work" / "over").touch()
    assert (await run.step(1)).exit_code == 0
    await run.cancel()
    assert end_of(await run.ended()) == CANCELLED
    assert (await run.step(2)).state == "skipped"
    assert await run.left() == []


async def test_between_two_tries_no_further_one_begins(place: Place) -> None:
    run = await place.submit({"steps": [{"run": "echo on; sleep 0.05; exit 1", "retry": 10}]})
    await run.said(1, b"on\n")
    await run.cancel()
    ended = await run.ended()
    step = await run.step(1)
    assert end_of(ended) == CANCELLED or step.tries == 11  # it may have been quicker
    assert await run.left() == []


async def test_only_a_background_step_runs_and_is_not_ready_yet(place: Place) -> None:
    background = {"background": True, "run": f"trap '' TERM; {WAIT} & {WAIT}", "ready": "exit 1"}
    run = await place.submit({"steps": [background, {"run": "echo never"}]})
    await run.said(1, b"on\n")
    await run.cancel()
    assert end_of(await run.ended()) == CANCELLED
    assert (await run.step(2)).state == "skipped"
    assert await run.left() == []


async def test_all_that_counts_had_gone_well_and_only_a_background_step_takes_its_time(place: Place) -> None:
    background = {
        "background": True,
        "run": "trap 'echo ending' TERM; echo on; while :; do sleep 0.02; done",
        "ready": "true",
    }
    run = await place.submit({"steps": [background, {"run": "true"}]})
    await run.said(1, b"ending\n")
    await run.cancel()
    assert end_of(await run.ended()) == ("succeeded", "all_steps_ok")
    assert await run.left() == []


@asynccontextmanager
async def deaf_store(place: Place) -> AsyncIterator[asyncio.Event]:
    """An object store that takes every connection and answers nothing; the event is set when somebody came."""
    came = asyncio.Event()
    writers = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        came.set()

    async def urls(about: Ask, asked: UrlsAsked) -> UrlsTold:
        def address(method: Literal["GET", "PUT"]) -> Presigned:
            return Presigned(method=method, key="k", url=f"http://{place.loopback}:{port}/k", expires_unix=2**31)

        return UrlsTold(source=address("GET"), artifacts=dict.fromkeys(asked.artifacts, address("PUT")))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    place.hub.urls = urls
    yield came
    place.hub.urls = None
    server.close()
    for writer in writers:
        writer.close()


async def test_while_the_source_is_fetched(place: Place) -> None:
    async with deaf_store(place) as came:
        run = await place.submit({"source": {"tree": "0" * 64}, "steps": [{"run": "echo never"}]})
        await asyncio.wait_for(came.wait(), PATIENCE_SECONDS)
        await run.cancel()
        assert end_of(await run.ended()) == CANCELLED
        assert await run.left() == []
    assert (await run.step(1)).state == "skipped"


async def test_while_artifacts_are_stored(place: Place) -> None:
    spec = {"steps": [{"run": "echo kept >kept"}], "artifacts": [{"name": "kept", "paths": ["kept"]}]}
    async with deaf_store(place) as came:
        run = await place.submit(spec)
        await asyncio.wait_for(came.wait(), PATIENCE_SECONDS)
        await run.cancel()
        ended = await run.ended()
        assert (end_of(ended), ended.exit_code) == (CANCELLED, 0)
        assert await run.left() == []
