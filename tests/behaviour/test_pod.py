"""What is a pod's alone: containers that come late, die and come back, and nobody beside them but the bus."""

import pytest

from shared.flow import ORDERS, OrderTo
from tests.behaviour.pod import PodPlace, PodRun
from tests.integration.runner.waiting import until_there

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT = "echo on; while [ ! -e over ]; do sleep 0.02; done"


def let_go(run: PodRun) -> None:
    (run.directory / "work" / "over").touch()


def end_of(run_ended) -> tuple[str, str]:
    return run_ended.outcome, run_ended.reason.value


GOOD = ("succeeded", "all_steps_ok")
CANCELLED = ("cancelled", "cancelled")


async def test_what_the_image_sets_is_below_a_steps_environment(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": "echo $IMAGE $OWN", "env": {"OWN": "too"}}]})
    assert end_of(await run.ended()) == GOOD
    assert await run.log(1) == b"its own too\n"
    assert await run.left() == []


async def test_the_first_step_waits_for_nobody(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": "echo alone"}]})
    run.start("step-1")
    await run.succeeded()
    assert (run.directory / "steps/001/log").read_bytes() == b"alone\n"
    run.start("step-ctl")
    assert end_of(await run.ended()) == GOOD
    assert await run.left() == []


async def test_containers_that_come_one_by_one_in_any_order_run_the_steps_in_theirs(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": f"echo {n} >>all"} for n in range(1, 4)] + [{"run": "cat all"}]})
    for name in ("step-4", "step-2", "step-ctl", "step-3", "step-1"):
        run.start(name)
        await run.containers[name].running.wait()
    assert end_of(await run.ended()) == GOOD
    assert await run.log(4) == b"1\n2\n3\n"


async def test_steps_that_share_a_container_take_turns_with_those_of_others(pods: PodPlace) -> None:
    steps = [{"image": image, "run": f"echo {n} >>all"} for n, image in enumerate("aababa", start=1)]
    run = await pods.prepare({"steps": [*steps, {"image": "b", "run": "cat all"}]}, limit=3)
    assert list(run.containers) == ["step-ctl", "step-1", "step-3"]
    run.start()
    assert end_of(await run.ended()) == GOOD
    assert (await run.log(7)).split() == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert await run.left() == []


async def test_a_step_ctl_killed_again_and_again_tells_everything_once(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": WAIT}, {"run": "echo second"}]})
    await run.said(1, b"on\n")
    for _ in range(3):
        await run.containers["step-ctl"].kill()
    let_go(run)
    assert end_of(await run.ended()) == GOOD
    assert await run.log(1) == b"on\n"
    assert await run.left() == []
    kinds = await pods.hub.kinds(run.order.job)
    assert sorted(kinds) == sorted(
        ["attempt-started", "step-started", "step-ended", "step-started", "step-ended", "attempt-ended"]
    )


async def test_a_waiting_containers_death_changes_nothing(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": WAIT}, {"run": "echo second"}]})
    await run.said(1, b"on\n")
    await run.containers["step-2"].running.wait()
    await run.containers["step-2"].kill()
    let_go(run)
    assert end_of(await run.ended()) == GOOD
    assert await run.left() == []


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes-back", "stays-away"])
async def test_a_running_containers_death_is_told_as_lost_and_never_as_success(pods: PodPlace, comes_back) -> None:
    run = await pods.submit({"steps": [{"run": WAIT}, {"run": "echo never", "if": "always()"}]})
    await run.said(1, b"on\n")
    if not comes_back:
        run.containers["step-1"].retire()
    await run.containers["step-1"].kill()
    ended = await run.ended()
    assert (*end_of(ended), ended.step) == ("error", "runner_lost", 1)
    assert "nobody knows how it ended" in ended.message
    assert (await run.step(2)).state == "skipped"
    assert await run.left() == []


async def test_the_death_of_a_background_steps_container_ends_the_rest(pods: PodPlace) -> None:
    run = await pods.submit(
        {"steps": [{"background": True, "run": "echo up; sleep 1000"}, {"run": "trap 'exit 3' TERM; " + WAIT}]}
    )
    await run.said(2, b"on\n")
    await run.containers["step-1"].kill()
    ended = await run.ended()
    assert (*end_of(ended), ended.step) == ("error", "runner_lost", 1)
    assert (await run.step(2)).state == "cancelled"
    assert await run.left() == []


async def test_who_knows_more_of_a_loss_may_say_it_first(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": WAIT}]})
    await run.said(1, b"on\n")
    await run.containers["step-1"].kill()
    await until_there(run.directory / "lost" / "001")
    await pods.tell_ended(run, "failed", "out_of_memory", "step 1 ran out of memory")
    assert end_of(await run.ended()) == ("failed", "out_of_memory")
    assert await run.left() == []
    assert (await pods.hub.kinds(run.order.job)).count("attempt-ended") == 1


async def test_a_cancel_does_not_wait_for_containers_that_are_not_there_yet(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": WAIT}, {"run": "echo never"}, {"run": "echo never"}]})
    run.start("step-ctl", "step-1")
    await run.said(1, b"on\n")
    await run.cancel()
    assert end_of(await run.ended()) == CANCELLED
    assert [(await run.step(number)).state for number in (1, 2, 3)] == ["cancelled", "skipped", "skipped"]
    run.start("step-2", "step-3")
    assert await run.left() == []
    assert "step-started" not in [kind for kind, fact in await pods.hub.facts(run.order.job) if fact.get("step") == 2]


async def test_a_cancel_ends_a_pod_none_of_whose_steps_has_a_container(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": "echo never"}, {"run": "echo never"}]})
    run.start("step-ctl")
    await pods.hub.until(run.order.job, "attempt-started")
    await run.cancel()
    assert end_of(await run.ended()) == CANCELLED
    await run.succeeded()


async def test_the_jobs_timeout_holds_without_containers(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": "echo never"}]}, timeout_seconds=1)
    run.start("step-ctl")
    assert end_of(await run.ended()) == ("timed_out", "timeout")


async def test_a_deleted_pod_tells_how_its_steps_ended(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": "trap 'echo ending; exit 3' TERM; " + WAIT}, {"run": "echo never"}]})
    await run.said(1, b"on\n")
    await run.delete()
    ended = await run.ended()
    assert (*end_of(ended), ended.step) == ("error", "evicted", 1)
    assert (await run.log(1)).endswith(b"ending\n")
    assert [container.codes[-1] for container in run.containers.values()] == [0, 0, 0]


async def test_a_pod_deleted_while_its_images_are_pulled_tells_its_end(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": "echo never"}]})
    run.start("step-ctl")
    await pods.hub.until(run.order.job, "attempt-started")
    await run.delete()
    assert end_of(await run.ended()) == ("error", "evicted")


async def test_what_is_not_wanted_any_more_ends(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": WAIT}]})
    await run.said(1, b"on\n")
    order = run.order.model_copy(update={"epoch": 2, "target": "m9"})
    await pods.hub.put(order)
    assert end_of(await run.ended()) == ("error", "stale")
    assert await run.left() == []


async def test_an_order_revoked_while_nobody_listened_is_missed_at_the_next_start(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": WAIT}]})
    await pods.hub.bus.purge(ORDERS, OrderTo.filter(tenant=run.order.tenant, job=run.order.job))
    run.start()
    assert end_of(await run.ended()) == ("error", "stale")
    assert await run.left() == []


@pytest.mark.parametrize("began", [True, False], ids=["running", "waiting"])
async def test_after_a_restart_of_the_node_nothing_is_gone_on_with(pods: PodPlace, began: bool) -> None:
    run = await pods.prepare({"steps": [{"run": WAIT}, {"run": "echo never"}]})
    run.directory.mkdir(exist_ok=True)
    (run.directory / "boot").write_text("11111111-2222-3333-4444-555555555555\n")
    if began:
        (run.directory / "steps/001").mkdir(parents=True)
        (run.directory / "steps/001/started").write_text("pid 1\n")
    run.start()
    ended = await run.ended()
    assert (*end_of(ended), ended.step) == ("error", "runner_lost", 1)
    assert "the machine was restarted" in ended.message
    assert await run.left() == []


FENCED = {"on_lost": "rerun-fenced", "fence_seconds": 3.0}


async def test_under_a_fence_nothing_of_a_pod_goes_on_without_the_hub(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": WAIT}, {"run": "echo never", "if": "always()"}]}, **FENCED)
    run.start()
    await run.said(1, b"on\n")
    pods.hub.desired_open = False
    try:
        ended = await run.ended()
        assert end_of(ended) == ("error", "machine_lost")
        assert "no contact with the hub" in ended.message
        assert (await run.step(1)).killed_for == "fenced"
    finally:
        pods.hub.desired_open = True
    assert await run.left() == []


async def test_under_a_fence_nothing_begins_before_the_first_contact(pods: PodPlace) -> None:
    pods.hub.desired_open = False
    try:
        run = await pods.prepare({"steps": [{"run": "echo begun"}]}, **FENCED)
        run.start()
        await pods.hub.until(run.order.job, "attempt-started")
        await run.containers["step-1"].running.wait()
        assert not (run.directory / "go/001").exists()
    finally:
        pods.hub.desired_open = True
    assert end_of(await run.ended()) == GOOD
    assert await run.left() == []


async def test_under_a_fence_a_job_longer_than_it_goes_on_while_there_is_contact(pods: PodPlace) -> None:
    run = await pods.prepare({"steps": [{"run": "sleep 4"}]}, **FENCED)
    run.start()
    assert end_of(await run.ended()) == GOOD
    assert await run.left() == []
