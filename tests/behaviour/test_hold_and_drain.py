"""Held, a job begins no further step; drained, what it runs on lets it go: told so, and nothing left."""

import pytest

from shared.facts import Desired
from tests.behaviour.place import Place
from tests.integration.runner.waiting import until_there

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT = "echo on; while [ ! -e over ]; do sleep 0.02; done"


async def test_a_hold_keeps_the_next_step_and_its_end_lets_it_go(place: Place) -> None:
    run = await place.submit({"steps": [{"run": WAIT}, {"run": "echo second"}]})
    await run.said(1, b"on\n")
    await place.hub.change(run.order, desired=Desired.HOLD)
    await until_there(run.directory / "hold")
    (run.directory / "work" / "over").touch()
    assert (await run.step(1)).exit_code == 0
    assert not (run.directory / "steps/002/started").exists()
    await place.hub.change(run.order, desired=Desired.RUN)
    assert (await run.ended()).outcome == "succeeded"
    assert await run.log(2) == b"second\n"
    assert await run.left() == []


async def test_a_job_that_is_held_can_be_cancelled(place: Place) -> None:
    run = await place.submit({"steps": [{"run": WAIT}, {"run": "echo never"}]})
    await run.said(1, b"on\n")
    await place.hub.change(run.order, desired=Desired.HOLD)
    await until_there(run.directory / "hold")
    await run.cancel()
    ended = await run.ended()
    assert (ended.outcome, ended.reason) == ("cancelled", "cancelled")
    assert ((await run.step(1)).state, (await run.step(2)).state) == ("cancelled", "skipped")
    assert await run.left() == []


async def test_a_job_whose_machine_or_node_is_drained_is_evicted_with_time_to_say_a_last_word(place: Place) -> None:
    last = "trap 'echo ending; exit 3' TERM; echo on; while :; do sleep 0.02; done"
    run = await place.submit({"steps": [{"run": last}, {"run": "echo never", "if": "always()"}]})
    await run.said(1, b"on\n")
    async with run.drained():
        ended = await run.ended()
        assert (ended.outcome, ended.reason) == ("error", "evicted"), ended
        await run.said(1, b"ending\n")
        assert (await run.step(1)).exit_code == 3
        assert (await run.step(2)).state == "skipped"
    assert await run.left() == []
    assert (await place.hub.kinds(run.order.job)).count("attempt-ended") == 1
