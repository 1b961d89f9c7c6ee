"""The disk that attempts, their records and the workspace are on is full: what is told stays true, nothing hangs."""

import os
import signal
from pathlib import Path

import pytest

from tests.behaviour.conftest import DISK_BYTES
from tests.behaviour.machine import MachinePlace, processes_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILL = "{ cat /dev/zero >filler 2>/dev/null || :; }"


async def test_a_step_that_runs_out_of_disk_failed_and_later_ones_can_clean_up(small_place: MachinePlace) -> None:
    steps = [
        {"run": "true"},
        {"run": "cat /dev/zero >filler"},
        {"run": "rm filler; echo room >note; cat note", "if": "always()"},
    ]
    run = await small_place.submit({"steps": steps})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step, ended.exit_code) == ("failed", "step_failed", 2, 0)
    assert b"No space left" in await run.log(2)
    assert await run.log(3) == b"room\n"
    assert await run.left() == []


async def test_a_step_after_the_disk_is_full_runs_and_is_told_with_all_it_did(small_place: MachinePlace) -> None:
    steps = [
        {"run": f"{FILL}; true"},
        *({"run": f"exit {n}", "continue-on-error": True} for n in range(20)),
        {"run": "exit 7"},
    ]
    run = await small_place.submit({"steps": steps})
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step, ended.exit_code) == ("failed", "step_failed", 22, 7)
    assert [(await run.step(n + 2)).exit_code for n in range(20)] == list(range(20))
    assert await run.left() == []


async def test_a_log_the_disk_did_not_take_is_said_to_be_incomplete(small_place: MachinePlace) -> None:
    run = await small_place.submit({"steps": [{"run": f"echo before; {FILL}; seq 1 20000; exit 0"}]})
    await run.ended()
    step = await run.step(1)
    assert (step.exit_code, step.log_dropped_bytes + step.log_bytes) == (0, len(b"before\n") + 108894)
    assert step.log_dropped_bytes > 0
    assert "The log is not whole: No space left on device" in step.message
    log = await run.log(1)
    assert log.startswith(b"before\n")
    assert len(log) == step.log_bytes
    assert await run.left() == []


async def test_a_try_that_could_not_be_recorded_does_not_run(small_place: MachinePlace) -> None:
    count = "n=$(cat /dev/shm/$OVERSPILL_JOB_ID 2>/dev/null || echo 0); echo $((n + 1)) >/dev/shm/$OVERSPILL_JOB_ID; "
    run = await small_place.submit({"steps": [{"run": f"{count} {FILL}; echo full; exit 3", "retry": 5}]})
    ended = await run.ended()
    step = await run.step(1)
    told = Path(f"/dev/shm/{run.order.job}")
    begun = int(told.read_text())
    told.unlink()
    assert (ended.outcome, ended.step, step.tries) == ("failed", 1, begun)
    assert await run.left() == []


async def test_a_job_that_hangs_on_a_full_disk_can_be_cancelled(small_place: MachinePlace) -> None:
    run = await small_place.submit({"steps": [{"run": f"{FILL}; echo full; sleep 1000"}]})
    await run.said(1, b"full\n")
    await run.cancel()
    ended = await run.ended()
    assert (ended.outcome, ended.reason) == ("cancelled", "cancelled")
    assert await run.left() == []


async def test_a_job_that_hangs_on_a_full_disk_times_out(small_place: MachinePlace) -> None:
    run = await small_place.submit({"steps": [{"run": f"{FILL}; sleep 1000"}]}, timeout_seconds=2)
    ended = await run.ended()
    assert (ended.outcome, ended.reason) == ("timed_out", "timeout")
    assert await run.left() == []


async def test_an_artifact_the_disk_has_no_room_for_is_an_error_and_no_success(small_place: MachinePlace) -> None:
    make = f"head -c 6M /dev/urandom >big; {FILL}"
    spec = {"steps": [{"run": make}], "artifacts": [{"name": "big", "paths": ["big"]}]}
    run = await small_place.submit(spec)
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step, ended.exit_code) == ("error", "setup_failed", 1, 0)
    assert "No space left" in ended.message
    assert await run.left() == []


async def test_an_entrypoint_killed_on_a_full_disk_is_an_error_of_ours(small_place: MachinePlace) -> None:
    run = await small_place.submit({"steps": [{"run": f"{FILL}; echo full; sleep 1000"}, {"run": "true"}]})
    await run.said(1, b"full\n")
    entrypoint = int(
        dict(line.split() for line in (run.directory / "steps/001/started").read_text().splitlines())["pid"]
    )
    os.kill(int(Path(f"/proc/{entrypoint}/stat").read_text().split()[3]), signal.SIGKILL)
    ended = await run.ended()
    assert (ended.outcome, ended.reason, ended.step) == ("error", "runner_lost", 1)
    assert await run.left() == []


async def test_when_not_even_the_loss_can_be_noted_the_job_ends_as_an_error_and_nothing_of_it_runs(
    small_place: MachinePlace, small_disk: Path
) -> None:
    run = await small_place.submit({"steps": [{"run": "echo on; sleep 1000 & wait"}]})
    await run.said(1, b"on\n")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(DISK_BYTES))
    step = int((run.directory / "steps/001/started").read_text().split()[1])
    os.kill(int(Path(f"/proc/{step}/stat").read_text().split()[3]), signal.SIGKILL)
    ended = await run.ended()
    assert (ended.outcome, ended.reason) == ("error", "setup_failed")
    assert [line for line in processes_of(run.order.job) if "sleep" in line or "entrypoint" in line] == []
    filler.unlink()
    # What it told is on the disk still; the next agent to start brings the rest.
    small_place.agent.signal(signal.SIGKILL)
    small_place.agent.start()
    assert await run.left() == []
    assert await run.log(1) == b"on\n"


async def test_a_job_for_which_there_is_no_room_at_all_is_an_error_and_the_next_one_runs(
    small_place: MachinePlace, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(DISK_BYTES))
    run = await small_place.submit({"steps": [{"run": "true"}]})
    ended = await run.ended()
    assert (ended.outcome, ended.reason) == ("error", "setup_failed")
    assert "No space left" in ended.message
    filler.unlink()
    again = await small_place.submit({"steps": [{"run": "true"}]})
    assert (await again.ended()).outcome == "succeeded", small_place.agent.complaints()
    assert await again.left() == []
