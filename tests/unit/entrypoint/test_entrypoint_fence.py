"""The fence: without contact to the hub an attempt ends itself, and needs nobody for it."""

import signal
import time
from pathlib import Path

import pytest
from attempt_dir import AttemptDir, pids_in, until_gone

LONG_MS = 3_600_000
SECOND = 1_000_000_000
DEAF = "trap '' TERM; echo $$ >begun; while :; do sleep 0.02; done"


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def put_fence(attempt: AttemptDir, *, since: int, end_ms: int, kill_ms: int, contact: int | None = None) -> Path:
    note = attempt.root.parent / "contact"
    if contact is not None:
        note.write_text(f"{contact}\n")
    lines = f"contact {note}\nsince_boot_ns {since}\nend_ms {end_ms}\nkill_ms {kill_ms}\n"
    (attempt.root / "fence").write_text(lines)
    return note


def ended(attempt: AttemptDir, step: int) -> tuple[str, str, str]:
    end = attempt.exit(step)
    return end["state"], end["killed_for"], end["verdict"]


def test_a_step_without_contact_for_long_enough_is_ended_and_all_are_told(attempt: AttemptDir) -> None:
    attempt.chain("echo on; sleep 1000", "echo never", if_="always")
    put_fence(attempt, since=boot_ns(), end_ms=300, kill_ms=LONG_MS)
    attempt.run(1, 2)
    assert (attempt.word("cancel"), attempt.finish) == ("fenced", "cancelled")
    assert ended(attempt, 1) == ("cancelled", "fenced", "failed")
    assert ended(attempt, 2) == ("skipped", "fenced", "failed")


@pytest.mark.parametrize("ago", [3600 * SECOND, -3600 * SECOND], ids=["old", "of-another-boot"])
def test_nothing_begins_when_the_last_contact_is_too_old_or_of_another_boot(attempt: AttemptDir, ago: int) -> None:
    attempt.step(1, "echo never")
    put_fence(attempt, since=1, end_ms=1000, kill_ms=2000, contact=boot_ns() - ago)
    attempt.run(1)
    assert ended(attempt, 1) == ("skipped", "fenced", "failed")
    assert not attempt.path(1, "started").exists()


def test_a_newer_contact_keeps_the_fence_away(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    put_fence(attempt, since=1, end_ms=LONG_MS, kill_ms=2 * LONG_MS, contact=boot_ns())
    attempt.run(1)
    assert (attempt.exit(1)["state"], attempt.finish, attempt.word("cancel")) == ("exited", "ok", None)


def test_a_contact_noted_in_the_meantime_counts(attempt: AttemptDir) -> None:
    attempt.step(1, "until [ -e over ]; do sleep 0.02; done")
    began = boot_ns()
    note = put_fence(attempt, since=began, end_ms=2000, kill_ms=LONG_MS)
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until(1, "started")
        until = began + 3 * SECOND
        while (now := boot_ns()) < until:
            beside = note.with_name("contact.new")
            beside.write_text(f"{now}\n")
            beside.rename(note)
            time.sleep(0.05)
        (attempt.work / "over").touch()
        assert running.wait() == 0
    assert (attempt.finish, attempt.word("cancel")) == ("ok", None)


def test_the_grace_ends_with_the_fence(attempt: AttemptDir) -> None:
    attempt.step(1, DEAF, grace_ms=LONG_MS)
    put_fence(attempt, since=boot_ns(), end_ms=200, kill_ms=900)
    attempt.run(1)
    assert ended(attempt, 1) == ("cancelled", "fenced", "failed")


def test_after_a_sleep_beyond_the_fence_there_is_no_grace(attempt: AttemptDir) -> None:
    attempt.step(1, DEAF, grace_ms=LONG_MS)
    put_fence(attempt, since=boot_ns(), end_ms=1500, kill_ms=2000)
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until_file("begun")
        running.signal(signal.SIGSTOP)
        time.sleep(2.5)  # nothing but time has to pass
        running.signal(signal.SIGCONT)
        assert running.wait() == 0
    until_gone(pids_in(attempt.work / "begun")[0])
    assert ended(attempt, 1) == ("cancelled", "fenced", "failed")


def test_background_steps_and_whoever_waits_are_fenced_too(attempt: AttemptDir) -> None:
    attempt.step(1, DEAF, mode="background", next=2, grace_ms=100)
    attempt.step(2, "sleep 1000", next=3)
    attempt.step(3, "echo never")
    attempt.go(1)
    put_fence(attempt, since=boot_ns(), end_ms=1500, kill_ms=LONG_MS)
    with attempt.start(1, 2, 3) as running:
        attempt.until_file("begun")
        attempt.post("hold", "hold")
        assert running.wait() == 0
    assert {ended(attempt, step)[1] for step in (1, 2, 3)} == {"fenced"}


@pytest.mark.parametrize(
    "text",
    ["contact /c\n", "contact /c\nsince_boot_ns x\nend_ms 1\nkill_ms 2\n", "since_boot_ns 1\nend_ms 1\nkill_ms 2\n"],
)
def test_a_fence_that_says_nothing_runs_nothing(attempt: AttemptDir, text: str) -> None:
    attempt.step(1, "echo never")
    (attempt.root / "fence").write_text(text)
    code, complaint = attempt.run(1)
    assert code == 70
    assert "fence" in complaint
    assert not attempt.path(1, "started").exists()
