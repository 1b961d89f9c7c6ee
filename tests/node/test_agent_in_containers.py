"""The behaviour suite where steps run in containers of podman and of containerd, and what is such a machine's alone.

Needs root.
"""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.behaviour.conftest import server as server  # noqa: PLC0414 - a fixture of this module too
from tests.behaviour.test_cancel import (  # noqa: F401 - run here, in this module's place
    test_a_job_that_has_ended_well_stays_so,
    test_a_running_step_is_ended_and_no_other_begins,
    test_all_that_counts_had_gone_well_and_only_a_background_step_takes_its_time,
    test_between_two_steps_nothing_more_begins,
    test_between_two_tries_no_further_one_begins,
    test_cancelled_twice_and_again_after_its_end_it_has_one_end,
    test_only_a_background_step_runs_and_is_not_ready_yet,
    test_while_artifacts_are_stored,
    test_while_the_source_is_fetched,
)
from tests.behaviour.test_hold_and_drain import (  # noqa: F401 - run here, in this module's place
    test_a_hold_keeps_the_next_step_and_its_end_lets_it_go,
    test_a_job_that_is_held_can_be_cancelled,
    test_a_job_whose_machine_or_node_is_drained_is_evicted_with_time_to_say_a_last_word,
)
from tests.behaviour.test_steps import (  # noqa: F401 - run here, in this module's place
    test_a_background_step_that_dies_of_itself_fails_the_job,
    test_a_background_step_whose_daemon_holds_the_pipe_hangs_nothing,
    test_a_daemon_in_a_session_of_its_own_goes_with_its_step,
    test_a_daemon_that_holds_the_pipe_hangs_nothing,
    test_a_step_over_its_own_timeout_is_the_one_that_failed,
    test_closed_output_is_no_end,
    test_the_first_failing_code_is_the_jobs,
    test_the_jobs_timeout_ends_what_runs_and_what_would_follow,
    test_who_ignores_sigterm_is_killed_after_the_grace,
)
from tests.conftest import BusServer
from tests.integration.runner.waiting import until_process_gone
from tests.node import forge
from tests.node import store as objects
from tests.node.containers import ContainerPlace, Store, container_place, limit
from tests.node.runtime import BUSYBOX

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT = "echo on; while [ ! -e over ]; do sleep 0.02; done"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    server: BusServer, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ContainerPlace]:
    async with container_place(server, tmp_path_factory.mktemp("place"), store) as made:
        yield made


async def test_a_step_runs_in_its_image_and_shares_workspace_and_localhost_with_the_others(
    place: ContainerPlace,
) -> None:
    server = {"background": True, "run": "nc -l -p 8080 -e echo hello", "ready": "netstat -ltn | grep -q :8080"}
    asks = {"image": BUSYBOX, "run": "nc 127.0.0.1 8080 >said; sleep 0.1; ls /overspill; cat said"}
    run = await place.submit({"steps": [server | {"continue-on-error": True}, asks, {"run": "cat said"}]})
    ended = await run.ended()
    assert ended.outcome == "succeeded", (ended, place.agent.complaints()[-2000:])
    assert await run.log(2) == b"bin\njob\nplan\nhello\n"
    assert await run.log(3) == b"hello\n"
    assert await run.left() == []


async def test_git_brings_the_source_and_what_a_step_made_for_itself_alone_is_kept(
    place: ContainerPlace, tmp_path: Path
) -> None:
    forge.project(tmp_path / "repositories")
    with forge.serving(tmp_path / "repositories", "127.0.0.1") as url, objects.serving("127.0.0.1") as kept:
        place.hub.urls = kept.urls
        spec = {
            "source": {"git": f"{url}/project", "submodules": True},
            "steps": [{"run": "umask 077; cat lib/tool >private"}],
            "artifacts": [{"name": "a", "paths": ["private"]}],
        }
        run = await place.submit(spec)
        ended = await run.ended()
        place.hub.urls = None
    assert ended.outcome == "succeeded", (ended, await run.log(0), place.agent.complaints()[-2000:])
    assert kept.names("a") == ["private"]
    assert await run.left() == []


async def test_a_step_has_no_privilege_and_sees_nothing_of_the_machine_but_its_job(place: ContainerPlace) -> None:
    look = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t' ' ' | sort; "
    look += "ls /overspill; find / -name attempt.json; ls /sys/class/net; env | grep -c SECRET; "
    look += "touch /overspill/plan/x 2>/dev/null || echo refused; grep -c ' /overspill/' /proc/mounts"
    run = await place.submit({"steps": [{"run": look, "env": {"THE_SECRET": "hush-hush"}}, {"run": WAIT}]})
    await run.said(2, b"on\n")
    containers = place.containers(run.order.job)
    told = place.store.call("inspect", *containers)
    steps = [pid for name, pid in containers.items() if "step-ctl" not in name]
    limits = {(limit(pid, "memory", "memory.limit_in_bytes"), limit(pid, "pids", "pids.max")) for pid in steps}
    (run.directory / "work" / "over").touch()
    assert (await run.ended()).outcome == "succeeded"
    lines = (await run.log(1)).decode().split("\n")
    assert lines[:4] == ["CapBnd: 0000000000000000", "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"]
    assert lines[4:] == ["bin", "job", "plan", "lo", "1", "refused", "3", ""]
    assert "hush-hush" not in told
    assert limits == {(2**28, 4096)}
    assert await run.left() == []


async def test_an_image_that_cant_be_pulled_is_named_with_its_step(place: ContainerPlace) -> None:
    run = await place.submit({"steps": [{"run": "true"}, {"image": "localhost/nobody-has-it:1", "run": "true"}]})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("error", "image_pull", 2), ended
    assert "localhost/nobody-has-it:1" in ended.message
    assert await run.left() == []


async def test_an_agent_killed_and_started_again_finds_its_containers(place: ContainerPlace) -> None:
    run = await place.submit({"steps": [{"run": WAIT}, {"run": "echo second"}]})
    await run.said(1, b"on\n")
    place.agent.signal(signal.SIGKILL)
    place.agent.start()
    (run.directory / "work" / "over").touch()
    assert (await run.ended()).outcome == "succeeded", place.agent.complaints()[-2000:]
    assert (await place.hub.kinds(run.order.job)).count("step-started") == 2
    assert await run.left() == []


async def test_containers_of_an_attempt_that_nobody_knows_are_taken_away(place: ContainerPlace) -> None:
    run = await place.submit({"steps": [{"run": WAIT}]})
    await run.said(1, b"on\n")
    place.agent.signal(signal.SIGKILL)
    run.home.rename(place.agent.data / "taken")
    await place.hub.withdraw(run.order)
    before = place.containers(run.order.job)
    assert len(before) == 2
    place.agent.start()
    for pid in before.values():
        await until_process_gone(pid)
    assert place.containers(run.order.job) == {}


async def test_a_step_container_killed_is_lost_and_never_success(place: ContainerPlace) -> None:
    run = await place.submit({"steps": [{"run": WAIT}, {"run": "echo never", "if": "always()"}]})
    await run.said(1, b"on\n")
    place.store.call("kill", next(name for name in place.containers(run.order.job) if "step-ctl" not in name))
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("error", "runner_lost", 1)
    assert await run.left() == []


async def test_a_step_ctl_killed_is_started_again_and_tells_everything_once(place: ContainerPlace) -> None:
    run = await place.submit({"steps": [{"run": WAIT}, {"run": "echo second"}]})
    await run.said(1, b"on\n")
    place.store.call("kill", next(name for name in place.containers(run.order.job) if "step-ctl" in name))
    (run.directory / "work" / "over").touch()
    assert (await run.ended()).outcome == "succeeded"
    assert await run.log(1) == b"on\n"
    assert (await place.hub.kinds(run.order.job)).count("step-started") == 2
    assert await run.left() == []


async def test_a_step_that_is_out_of_memory_is_named_with_its_limit(place: ContainerPlace) -> None:
    hog = "x=0123456789; while true; do x=$x$x; done"
    run = await place.submit_small({"steps": [{"run": "true"}, {"run": hog}, {"run": "echo never"}]})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "out_of_memory", 2), ended
    assert "64 MiB" in ended.message
    assert await run.left() == []


async def test_each_signal_is_told_with_its_number(place: ContainerPlace) -> None:
    names = ["HUP", "INT", "QUIT", "ABRT", "KILL", "SEGV", "PIPE", "TERM", "USR1"]
    steps = [{"run": f"ulimit -c 0; kill -{name} $$; sleep 60", "continue-on-error": True} for name in names]
    run = await place.submit({"steps": steps})
    assert (await run.ended()).outcome == "succeeded"
    told = [await run.step(number) for number in range(1, len(names) + 1)]
    numbers = [signal.Signals[f"SIG{name}"].value for name in names]
    assert [(step.state, step.signal, step.exit_code) for step in told] == [("signaled", n, 128 + n) for n in numbers]
    assert await run.left() == []
