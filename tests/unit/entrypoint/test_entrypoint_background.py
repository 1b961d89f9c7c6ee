"""Steps that serve the ones after them."""

import os
import signal
from pathlib import Path

from attempt_dir import AttemptDir, alive, pids_in, until_exists

SERVE = "echo $$ > served; exec sleep 1000"


def background(attempt: AttemptDir, number: int, command: str, **config: object) -> None:
    attempt.step(number, command, mode="background", **({"next": number + 1} | config))  # type: ignore[arg-type]


def test_a_background_step_without_a_probe_is_ready_at_once_and_ended_at_the_finish(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE)
    attempt.step(2, "while ! test -s served; do sleep 0.01; done; kill -0 $(cat served)")
    assert attempt.run(1, 2) == (0, "")
    end = attempt.exit(1)
    assert (end["state"], end["killed_for"], end["verdict"], end["signal"]) == ("ended", "end", "ok", "15")
    assert attempt.path(1, "ready").read_text() == "ok\n"
    assert attempt.exit(2)["code"] == "0"
    assert attempt.finish == "ok"
    assert not alive(pids_in(attempt.work / "served")[0])


def test_a_background_step_of_another_process_is_ended_at_the_finish(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE)
    attempt.step(2, "while ! test -s served; do sleep 0.01; done")
    with attempt.start(1) as one, attempt.start(2) as other:
        attempt.go(1)
        assert [one.wait(), other.wait()] == [0, 0]
    assert attempt.exit(1)["state"] == "ended"


def test_nobody_goes_on_before_the_probe_succeeds(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, ready='test "$GATE" = gate && echo >> probed && test -e open', env={"GATE": "gate"})
    attempt.step(2, "true")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("probed")
        assert attempt.word("go/002") is None
        assert not attempt.path(1, "ready").exists()
        (attempt.work / "open").touch()
        assert running.wait() == 0
    assert attempt.path(1, "ready").exists()
    assert [attempt.exit(n)["state"] for n in (1, 2)] == ["ended", "exited"]


def test_a_step_that_is_never_ready_fails_with_what_the_probe_said(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, ready="exit 42", ready_timeout_ms=300)
    attempt.step(2, "true")
    attempt.run(1, 2)
    end = attempt.exit(1)
    assert (end["state"], end["killed_for"], end["verdict"]) == ("timed_out", "timeout", "failed")
    assert "Not ready within 300 ms" in end["message"]
    assert "42" in end["message"]
    assert attempt.exit(2)["state"] == "skipped"
    assert attempt.finish == "failed"
    assert not alive(pids_in(attempt.work / "served")[0])


def test_a_probe_that_hangs_is_ended_with_its_step(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, ready="echo $$ > probe; exec sleep 1000", ready_timeout_ms=300)
    attempt.step(2, "true")
    attempt.run(1, 2)
    assert "did not end" in attempt.exit(1)["message"]
    assert not alive(pids_in(attempt.work / "probe")[0])


def test_a_probe_that_is_not_there_is_named(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, ready=["no-such-probe"], ready_timeout_ms=100)
    attempt.step(2, "true")
    attempt.run(1, 2)
    assert "no-such-probe" in attempt.exit(1)["message"]


def test_a_command_that_ends_before_it_is_ready_has_failed(attempt: AttemptDir) -> None:
    background(attempt, 1, "exit 0", ready="false")
    attempt.step(2, "true")
    attempt.run(1, 2)
    end = attempt.exit(1)
    assert (end["state"], end["code"], end["verdict"]) == ("exited", "0", "failed")
    assert "before it was ready" in end["message"]
    assert attempt.exit(2)["state"] == "skipped"


def test_a_command_that_was_not_ready_is_tried_again(attempt: AttemptDir) -> None:
    background(
        attempt, 1, "test -e seen || { touch seen; exit 1; }; echo > up; exec sleep 1000", ready="test -e up", retry=1
    )
    attempt.step(2, "true")
    attempt.run(1, 2)
    assert (attempt.exit(1)["state"], attempt.exit(1)["tries"]) == ("ended", "2")
    assert attempt.finish == "ok"


def test_a_command_that_dies_later_fails_the_attempt(attempt: AttemptDir) -> None:
    background(attempt, 1, "while ! test -e die; do sleep 0.01; done; exit 6", retry=3)
    attempt.step(2, "touch die; while ! test -s ../attempt/steps/001/exit; do sleep 0.01; done", next=3)
    attempt.step(3, "true", next=4)
    attempt.step(4, "true", if_="failure")
    attempt.run(1, 2, 3, 4)
    end = attempt.exit(1)
    assert (end["state"], end["code"], end["verdict"], end["tries"]) == ("exited", "6", "failed", "1")
    assert [attempt.exit(n)["state"] for n in (2, 3, 4)] == ["exited", "skipped", "exited"]
    assert attempt.finish == "failed"


def test_a_later_death_that_is_allowed_fails_nothing(attempt: AttemptDir) -> None:
    background(attempt, 1, "while ! test -e die; do sleep 0.01; done; exit 6", continue_on_error=1)
    attempt.step(2, "touch die; while ! test -s ../attempt/steps/001/exit; do sleep 0.01; done")
    attempt.run(1, 2)
    assert (attempt.exit(1)["code"], attempt.exit(1)["verdict"]) == ("6", "ok")
    assert attempt.finish == "ok"


def test_a_background_step_that_ends_well_of_itself_fails_nothing(attempt: AttemptDir) -> None:
    background(attempt, 1, "exit 0")
    attempt.step(2, "while ! test -s ../attempt/steps/001/exit; do sleep 0.01; done")
    attempt.run(1, 2)
    assert (attempt.exit(1)["state"], attempt.exit(1)["verdict"]) == ("exited", "ok")
    assert attempt.finish == "ok"


def test_a_background_step_that_ignores_sigterm_is_killed_after_its_grace(attempt: AttemptDir) -> None:
    background(attempt, 1, "trap '' TERM; echo > up; while :; do sleep 1000; done", ready="test -e up", grace_ms=50)
    attempt.step(2, "true")
    attempt.run(1, 2)
    assert (attempt.exit(1)["state"], attempt.exit(1)["signal"], attempt.exit(1)["verdict"]) == ("ended", "9", "ok")


def test_a_foreground_step_that_ends_spares_the_background_step_and_its_daemons(attempt: AttemptDir) -> None:
    background(attempt, 1, "setsid sleep 1000 & echo $! > daemon; echo > up; wait", ready="test -s up")
    attempt.step(2, "setsid sleep 1000 & echo $! > other", next=3)
    attempt.step(3, "kill -0 $(cat daemon) && ! kill -0 $(cat other)")
    attempt.run(1, 2, 3)
    assert attempt.exit(3)["code"] == "0"
    assert not alive(pids_in(attempt.work / "daemon")[0])


def test_a_cancel_ends_a_background_step(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE)
    attempt.step(2, "echo > up; exec sleep 1000")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("up")
        attempt.post("cancel", "timeout")
        assert running.wait() == 0
    assert [attempt.exit(n)["state"] for n in (1, 2)] == ["cancelled", "cancelled"]
    assert attempt.exit(1)["killed_for"] == "timeout"
    assert attempt.finish == "cancelled"


def test_a_cancel_ends_a_background_step_that_is_not_ready_yet(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, ready="echo >> probed; false")
    attempt.step(2, "true")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("probed")
        attempt.post("cancel", "cancel")
        assert running.wait() == 0
    assert [attempt.exit(n)["state"] for n in (1, 2)] == ["cancelled", "skipped"]


def test_a_signal_to_the_entrypoint_ends_its_background_steps_too(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE)
    attempt.step(2, "while ! test -s served; do sleep 0.01; done; echo > up; exec sleep 1000")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        attempt.until_file("up")
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    assert [attempt.exit(n)["state"] for n in (1, 2)] == ["cancelled", "cancelled"]
    assert not alive(pids_in(attempt.work / "served")[0])


def test_when_the_supervisor_of_a_background_step_is_gone_the_entrypoint_gives_up(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE)
    attempt.step(2, "while ! test -e gate; do sleep 0.01; done", next=3)
    attempt.step(3, "true")
    attempt.go(1)
    with attempt.start(1, 2, 3) as running:
        attempt.until_file("served")
        command = pids_in(attempt.work / "served")[0]
        attempt.post("hold", "")
        (attempt.work / "gate").touch()
        supervisor = int(Path(f"/proc/{command}/stat").read_text().rsplit(")", 1)[1].split()[1])
        assert supervisor != running.process.pid
        until_exists(attempt.root / "go" / "003")
        os.kill(supervisor, signal.SIGKILL)
        assert running.wait() == 70
    assert not alive(command)
    assert not attempt.has_exit(1)


def test_two_background_steps_serve_one_step(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE)
    background(attempt, 2, "echo > up; exec sleep 1000", ready="test -s up")
    attempt.step(3, "test -s up")
    attempt.run(1, 2, 3)
    assert [attempt.exit(n)["state"] for n in (1, 2, 3)] == ["ended", "ended", "exited"]


def test_a_background_step_that_may_not_run_is_skipped(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, if_="failure")
    attempt.step(2, "true")
    attempt.run(1, 2)
    assert attempt.exit(1)["state"] == "skipped"
    assert attempt.finish == "ok"


def test_a_background_step_that_is_the_last_ends_at_the_finish_it_posts(attempt: AttemptDir) -> None:
    background(attempt, 1, SERVE, ready="test -s served", next="finish")
    assert attempt.run(1)[0] == 0
    assert attempt.exit(1)["state"] == "ended"
    assert attempt.finish == "ok"
