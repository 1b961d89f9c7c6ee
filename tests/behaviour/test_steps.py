"""How steps end: right state, right reason, on the right step, and nothing left."""

import signal
from pathlib import Path

import pytest

from tests.behaviour.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNALS = ("HUP", "INT", "ABRT", "KILL", "SEGV", "PIPE", "TERM", "USR1", "ALRM")
"""Without QUIT, which busybox's shell ignores."""


async def test_a_hundred_steps_run_in_turn_each_with_its_own_log(place: Place) -> None:
    run = await place.submit(
        {"steps": [{"run": f"echo {n} >>all; echo step {n}"} for n in range(1, 100)] + [{"run": "cat all"}]}
    )
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.exit_code) == ("succeeded", "all_steps_ok", 0)
    assert [await run.log(n) for n in range(1, 100)] == [f"step {n}\n".encode() for n in range(1, 100)]
    assert (await run.log(100)).split() == [str(n).encode() for n in range(1, 100)]
    assert await run.left() == []


@pytest.mark.parametrize("codes", [range(86), range(86, 171), range(171, 256)], ids=str)
async def test_every_exit_code_is_told_as_it_was(place: Place, codes: range) -> None:
    run = await place.submit({"steps": [{"run": f"exit {code}", "continue-on-error": True} for code in codes]})
    ended = await run.ended()
    assert (ended.outcome, ended.exit_code) == ("succeeded", codes[-1])
    told = [await run.step(number) for number in range(1, len(codes) + 1)]
    assert [(step.state, step.exit_code, step.verdict) for step in told] == [("exited", code, "ok") for code in codes]
    assert await run.left() == []


async def test_the_first_failing_code_is_the_jobs(place: Place) -> None:
    run = await place.submit({"steps": [{"run": "exit 0"}, {"run": "exit 255"}, {"run": "exit 3", "if": "always()"}]})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "step_failed", 2)
    assert "255" in ended.message


async def test_a_signal_is_told_with_its_number(place: Place) -> None:
    numbers = [signal.Signals[f"SIG{name}"].value for name in SIGNALS]
    steps = [{"run": f"ulimit -c 0; kill -{name} $$; sleep 60", "continue-on-error": True} for name in SIGNALS]
    run = await place.submit({"steps": steps})
    assert (await run.ended()).outcome == "succeeded"
    told = [await run.step(number) for number in range(1, len(steps) + 1)]
    assert [step.signal for step in told] == numbers
    assert {(step.state, step.killed_for, step.verdict) for step in told} == {("signaled", "none", "ok")}
    assert [step.exit_code for step in told] == [128 + number for number in numbers]
    assert await run.left() == []


async def test_a_step_that_a_signal_ends_fails_the_job(place: Place) -> None:
    run = await place.submit({"steps": [{"run": "echo before"}, {"run": "kill -KILL $$; sleep 60"}]})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "step_failed", 2)
    assert await run.left() == []


async def test_a_daemon_in_a_session_of_its_own_goes_with_its_step(place: Place) -> None:
    look = 'grep -ls "daemon[-]of-$OVERSPILL_JOB_ID" /proc/[0-9]*/cmdline || echo none'
    daemon = 'setsid sh -c "setsid sleep 1000 & sleep 1000" daemon-of-$OVERSPILL_JOB_ID </dev/null >/dev/null 2>&1 &'
    run = await place.submit({"steps": [{"run": daemon}, {"run": look}]})
    assert (await run.ended()).outcome == "succeeded"
    assert await run.log(2) == b"none\n"
    assert await run.left() == []


async def test_a_daemon_that_hides_its_name_its_environment_and_its_directory_goes_too(place: Place) -> None:
    hide = "cd /; env -i setsid sh -c 'exec -a kworker sleep 1000' & echo $! >\"$OVERSPILL_OUTPUT.pid\"; "
    keep = 'echo "pid=$(cat "$OVERSPILL_OUTPUT.pid")" >"$OVERSPILL_OUTPUT"'
    run = await place.submit({"steps": [{"run": hide + keep, "shell": "bash -e"}]})
    assert (await run.ended()).outcome == "succeeded"
    pid = (await run.step(1)).outputs["pid"]
    assert await run.left() == []
    assert not Path(f"/proc/{pid}").exists()


async def test_a_daemon_that_holds_the_pipe_hangs_nothing(place: Place) -> None:
    run = await place.submit({"steps": [{"run": "echo said; setsid sleep 1000 &"}, {"run": "echo next"}]})
    assert (await run.ended()).outcome == "succeeded"
    assert (await run.log(1), await run.log(2)) == (b"said\n", b"next\n")
    assert await run.left() == []


async def test_a_background_step_whose_daemon_holds_the_pipe_hangs_nothing(place: Place) -> None:
    background = {"background": True, "run": "(trap '' TERM; setsid sleep 1000) & echo up; sleep 1000"}
    run = await place.submit({"steps": [background, {"run": "echo beside"}]})
    assert (await run.ended()).outcome == "succeeded"
    assert (await run.step(1)).state == "ended"
    assert await run.left() == []


async def test_a_background_step_that_dies_of_itself_fails_the_job(place: Place) -> None:
    steps = [
        {
            "name": "server",
            "background": True,
            "run": "while [ ! -e die ]; do sleep 0.02; done; exit 9",
        },
        {"run": "touch die; until [ -s ../steps/001/exit ]; do sleep 0.02; done"},
    ]
    run = await place.submit({"steps": steps})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "step_failed", 1)
    assert (await run.step(1)).exit_code == 9
    assert await run.left() == []


async def test_closed_output_is_no_end(place: Place) -> None:
    run = await place.submit(
        {
            "steps": [
                {"run": "echo said; exec >&- 2>&-; sleep 0.3; touch done; exit 5"},
                {"run": "ls done", "if": "always()"},
            ]
        }
    )
    ended = await run.ended()
    assert (ended.outcome, ended.step) == ("failed", 1)
    assert ((await run.step(1)).exit_code, await run.log(1), await run.log(2)) == (5, b"said\n", b"done\n")


async def test_a_step_over_its_own_timeout_is_the_one_that_failed(place: Place) -> None:
    steps = [
        {"run": "true"},
        {"run": "trap '' TERM; sleep 1000 & sleep 1000; wait", "timeout": "300ms"},
        {"run": "echo never"},
    ]
    run = await place.submit({"steps": steps})
    ended = await run.ended()
    step = await run.step(2)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "step_failed", 2)
    assert (step.state, step.killed_for) == ("timed_out", "timeout")
    assert "300 ms" in ended.message
    assert (await run.step(3)).state == "skipped"
    assert await run.left() == []


async def test_the_jobs_timeout_ends_what_runs_and_what_would_follow(place: Place) -> None:
    run = await place.submit(
        {"steps": [{"run": "echo on; trap '' TERM; sleep 1000 & wait; sleep 1000"}, {"run": "true", "if": "always()"}]},
        timeout_seconds=1,
    )
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("timed_out", "timeout", 1)
    assert ((await run.step(1)).killed_for, (await run.step(2)).state) == ("timeout", "skipped")
    assert await run.left() == []


async def test_who_ignores_sigterm_is_killed_after_the_grace(place: Place) -> None:
    run = await place.submit({"steps": [{"run": "trap 'echo deaf' TERM; echo on; while :; do sleep 0.05; done"}]})
    await run.said(1, b"on\n")
    await run.cancel()
    ended = await run.ended()
    step = await run.step(1)
    assert (ended.outcome, ended.reason, ended.step) == ("cancelled", "cancelled", 1)
    assert (step.state, step.killed_for, step.verdict) == ("cancelled", "cancel", "failed")
    assert b"deaf" in await run.log(1)
    assert await run.left() == []
