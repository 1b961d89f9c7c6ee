"""Timeouts, cancels, signals, and that nothing of a step outlives it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from attempt_dir import AttemptDir, alive, pids_in, until_gone

DOUBLE_FORK = (
    "import os, sys, signal\n"
    "for _ in range(2):\n"
    "    if os.fork(): os._exit(0)\n"
    "    os.setsid()\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "for fd in {close}: os.close(fd)\n"
    "open('daemon.new', 'w').write(str(os.getpid()))\n"
    "os.rename('daemon.new', 'daemon')\n"
    "signal.pause()\n"
)
STUBBORN = 'trap "" TERM; echo $$ > pid; while :; do sleep 1000; done'


@pytest.mark.parametrize("close", ["()", "(0, 1, 2)"], ids=["holds the pipe", "closed the pipe"])
def test_no_daemon_outlives_its_step(attempt: AttemptDir, close: str) -> None:
    (attempt.work / "daemon.py").write_text(DOUBLE_FORK.format(close=close))
    command = "python3 daemon.py; while ! test -e daemon; do sleep 0.01; done"
    steps = attempt.chain(command, "test ! -e /proc/$(cat daemon)")
    assert attempt.run(*steps)[0] == 0
    assert attempt.finish == "ok"
    assert not alive(pids_in(attempt.work / "daemon")[0])


def test_a_daemon_that_never_stops_writing_ends_with_its_step(attempt: AttemptDir) -> None:
    attempt.step(1, "setsid yes & echo $! > pid")
    assert attempt.run(1)[0] == 0
    assert attempt.exit(1)["state"] == "exited"
    assert not alive(pids_in(attempt.work / "pid")[0])


def test_what_a_daemon_wrote_before_it_was_killed_is_in_the_log(attempt: AttemptDir) -> None:
    attempt.step(
        1, "setsid sh -c 'echo last words; touch said; sleep 1000' & while ! test -e said; do sleep 0.01; done"
    )
    attempt.run(1)
    assert attempt.log(1) == b"last words\n"


def test_a_crowd_of_descendants_is_hunted_down(attempt: AttemptDir) -> None:
    (attempt.work / "family.sh").write_text("echo $$ >> pids; (sleep 1000; :) & sleep 1000; :")
    attempt.step(
        1,
        "touch pids; for i in 1 2 3 4 5 6 7 8; do setsid sh family.sh & done; "
        "while test $(wc -l < pids) -lt 8; do sleep 0.01; done",
    )
    attempt.run(1)
    assert [pid for pid in pids_in(attempt.work / "pids") if alive(pid)] == []


def test_descendants_that_keep_forking_are_outrun(attempt: AttemptDir) -> None:
    """Each generation leaves its session, forks the next one and dies, so that no look finds it twice."""
    generation = (
        "import os, time\n"
        "open('first', 'a').write('x')\n"
        "while True:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "    time.sleep(0.001)\n"
        "    open('last', 'w').write(str(os.getpid()))\n"
    )
    (attempt.work / "generation.py").write_text(generation)
    attempt.step(1, "python3 generation.py & while ! test -s first; do sleep 0.01; done")
    assert attempt.run(1)[0] == 0
    assert "message" not in attempt.exit(1)
    last = attempt.work / "last"
    assert not (last.exists() and last.read_text() and alive(int(last.read_text())))


def test_a_step_that_takes_too_long_is_ended(attempt: AttemptDir) -> None:
    attempt.step(1, "exec sleep 1000", timeout_ms=50)
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["killed_for"], end["verdict"]) == ("timed_out", "timeout", "failed")
    assert (end["code"], end["signal"]) == ("143", "15")
    assert "50 ms" in end["message"]
    assert attempt.finish == "failed"


def test_a_step_may_end_itself_in_order_after_its_timeout(attempt: AttemptDir) -> None:
    attempt.step(1, "trap 'echo bye; exit 7' TERM; sleep 1000 & wait", timeout_ms=200)
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"]) == ("timed_out", "7")
    assert attempt.log(1) == b"bye\n"


def test_the_groups_clean_up_has_the_grace_though_its_shell_went_first(attempt: AttemptDir) -> None:
    child = "trap 'sleep 0.3; touch cleaned; exit' TERM; echo > ready; while :; do sleep 0.02; done"
    (attempt.work / "child.sh").write_text(child)
    attempt.step(1, "sh child.sh > /dev/null 2>&1 & while ! test -s ready; do sleep 0.01; done; echo > up; sleep 1000")
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until_file("up")
        attempt.post("cancel", "cancel")
        running.wait()
    assert (attempt.work / "cleaned").exists()
    assert attempt.exit(1)["state"] == "cancelled"


def test_who_ignores_sigterm_is_killed_after_the_grace(attempt: AttemptDir) -> None:
    attempt.step(1, STUBBORN, timeout_ms=300, grace_ms=50)
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["signal"], end["code"], end["killed_for"]) == ("timed_out", "9", "137", "timeout")
    assert not alive(pids_in(attempt.work / "pid")[0])


@pytest.mark.parametrize("word", ["cancel", "timeout", "stale", "fenced"])
def test_a_cancel_ends_the_running_step_and_everything_after_it(attempt: AttemptDir, word: str) -> None:
    attempt.step(1, "echo > up; exec sleep 1000", next=2)
    attempt.step(2, "true", next=3, if_="always")
    attempt.step(3, "true", if_="failure")
    attempt.go(1)
    with attempt.start(1, 2, 3) as running:
        attempt.until_file("up")
        attempt.post("cancel", word)
        assert running.wait() == 0
    assert [attempt.exit(n)["state"] for n in (1, 2, 3)] == ["cancelled", "skipped", "skipped"]
    assert {attempt.exit(n)["killed_for"] for n in (1, 2, 3)} == {word}
    assert {attempt.exit(n)["verdict"] for n in (1, 2, 3)} == {"failed"}
    assert attempt.word("go/002") is None
    assert attempt.finish == "cancelled"


def test_a_step_that_may_fail_is_no_success_when_it_was_cancelled(attempt: AttemptDir) -> None:
    attempt.step(1, "echo > up; exec sleep 1000", next=2, continue_on_error=1)
    attempt.step(2, "true", continue_on_error=1)
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("up")
        attempt.post("cancel", "cancel")
        running.wait()
    assert {attempt.exit(n)["verdict"] for n in (1, 2)} == {"failed"}
    assert attempt.finish == "cancelled"


def test_a_cancel_of_a_later_version_is_a_cancel(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    attempt.post("cancel", "bored")
    attempt.run(1)
    assert attempt.exit(1)["killed_for"] == "cancel"


def test_a_cancel_reaches_every_process_that_waits_for_its_turn(attempt: AttemptDir) -> None:
    attempt.chain("true", "true", "true")
    with attempt.start(1) as a, attempt.start(2) as b, attempt.start(3) as c:
        attempt.post("cancel", "cancel")
        assert [a.wait(), b.wait(), c.wait()] == [0, 0, 0]
    assert [attempt.exit(n)["state"] for n in (1, 2, 3)] == ["skipped"] * 3
    assert attempt.finish == "cancelled"


def test_a_cancel_reaches_a_held_process(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    attempt.post("hold", "")
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.post("cancel", "stale")
        assert running.wait() == 0
    assert (attempt.exit(1)["state"], attempt.exit(1)["killed_for"]) == ("skipped", "stale")


def test_a_cancel_during_the_grace_of_a_timeout_changes_nothing_but_what_follows(attempt: AttemptDir) -> None:
    attempt.step(1, "trap 'echo > term' TERM; while ! test -e out; do sleep 0.02; done; exit 5", next=2, timeout_ms=300)
    attempt.step(2, "true", if_="always")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("term")
        attempt.post("cancel", "cancel")
        (attempt.work / "out").touch()
        running.wait()
    assert (attempt.exit(1)["state"], attempt.exit(1)["code"]) == ("timed_out", "5")
    assert attempt.exit(2)["state"] == "skipped"
    assert attempt.finish == "cancelled"


def test_a_cancelled_step_is_not_tried_again(attempt: AttemptDir) -> None:
    attempt.step(1, "echo try >> tries; exec sleep 1000", retry=5)
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until_file("tries")
        attempt.post("cancel", "cancel")
        running.wait()
    assert attempt.exit(1)["tries"] == "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_entrypoint_ends_its_steps(attempt: AttemptDir, number: signal.Signals) -> None:
    attempt.step(1, "echo $$ > up; exec sleep 1000", next=2)
    attempt.step(2, "true", if_="always")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("up")
        running.signal(number)
        assert running.wait() == 0
    assert [attempt.exit(n)["state"] for n in (1, 2)] == ["cancelled", "skipped"]
    assert attempt.exit(1)["killed_for"] == "cancel"
    assert f"signal {number.value}" in attempt.exit(1)["message"]
    assert attempt.finish == "cancelled"
    assert not alive(pids_in(attempt.work / "up")[0])


def test_a_cancel_while_a_further_try_is_owed_is_what_decides(attempt: AttemptDir) -> None:
    cancel = f"echo cancel > {attempt.root}/.c; mv {attempt.root}/.c {attempt.root}/cancel"
    attempt.step(1, f"{cancel}; exit 1", retry=5)
    attempt.go(1)
    with attempt.start(1) as running:
        assert running.wait() == 0
    assert (attempt.exit(1)["state"], attempt.exit(1)["killed_for"]) == ("cancelled", "cancel")


def test_a_cancel_that_was_there_before_the_start_is_obeyed(attempt: AttemptDir) -> None:
    attempt.step(1, "echo > ran")
    attempt.post("cancel", "fenced")
    attempt.run(1)
    assert not (attempt.work / "ran").exists()
    assert attempt.finish == "cancelled"


def test_passing_over_a_cancelled_step_starts_nothing_after_it(attempt: AttemptDir) -> None:
    """Its own signal left no `cancel` file behind, but the exit file says it."""
    attempt.step(1, "echo > up; exec sleep 1000", next=2)
    attempt.step(2, "echo > ran", if_="always")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("up")
        running.signal(signal.SIGTERM)
        running.wait()
    attempt.run(1, 2)
    assert not (attempt.work / "ran").exists()


def test_a_killed_entrypoint_takes_its_command_with_it(attempt: AttemptDir) -> None:
    attempt.step(1, "echo $$ > up; exec sleep 1000")
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until_file("up")
        running.signal(signal.SIGKILL)
        running.wait()
        until_gone(pids_in(attempt.work / "up")[0])
    assert not attempt.has_exit(1)
    assert attempt.finish is None


def test_a_step_cannot_be_hidden_from_its_end_by_a_closed_stdout(attempt: AttemptDir) -> None:
    attempt.step(1, "exec >&- 2>&-; echo > closed; while ! test -e out; do sleep 0.02; done; exit 3")
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until_file("closed")
        assert not attempt.has_exit(1)
        (attempt.work / "out").touch()
        running.wait()
    assert attempt.exit(1)["code"] == "3"


def test_an_entrypoint_without_stdin_stdout_and_stderr_works(attempt: AttemptDir) -> None:
    attempt.step(1, "echo out; cat")
    attempt.go(1)
    command = f"exec {attempt.binary} run --tee {attempt.root} 001 <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0
    assert attempt.log(1) == b"out\n"
    assert attempt.exit(1)["code"] == "0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_we_may_not_kill_hangs_nobody(attempt: AttemptDir, tmp_path: Path) -> None:
    """As a step that used sudo: the entrypoint is no root and what it left behind is."""
    root_sleep = attempt.work / "sleep-as-root"
    shutil.copy("/bin/sleep", root_sleep)
    root_sleep.chmod(0o4755)
    attempt.step(
        1, f"setsid {root_sleep} 1000 > /dev/null 2>&1 & echo $! > pid; while ! grep -q sleep /proc/$!/comm; do :; done"
    )
    attempt.go(1)
    for path in [*tmp_path.rglob("*"), tmp_path]:
        if path != root_sleep:
            os.chown(path, 65534, 65534)
    shared = shutil.copy(attempt.binary, tmp_path / "entrypoint")
    attempt.binary = Path(shared)
    for parent in list(tmp_path.parents)[:-2]:
        parent.chmod(0o755)
    with attempt.start(1, user=65534, group=65534, extra_groups=[]) as running:
        assert running.wait() == 0
    assert attempt.exit(1)["code"] == "0"
    pid = pids_in(attempt.work / "pid")[0]
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
