"""Whose turn it is, what is posted on, and what a second start does."""

import fcntl
import os
import signal
import subprocess

import pytest
from attempt_dir import AttemptDir, until_exists


def test_steps_of_one_process_run_in_turn(attempt: AttemptDir) -> None:
    steps = attempt.chain("echo 1 >> order", "echo 2 >> order", "echo 3 >> order")
    assert attempt.run(*steps) == (0, "")
    assert attempt.until_file("order") == "1\n2\n3\n"
    assert [attempt.word(f"go/{n:03d}") for n in steps] == ["ok", "ok", "ok"]
    assert attempt.finish == "ok"


def test_steps_of_several_processes_run_in_turn(attempt: AttemptDir) -> None:
    attempt.chain(*[f"echo {n} >> order" for n in range(1, 7)])
    with attempt.start(2, 5) as b, attempt.start(1, 4) as a, attempt.start(3, 6) as c:
        attempt.go(1)
        assert [a.wait(), b.wait(), c.wait()] == [0, 0, 0]
    assert attempt.until_file("order") == "1\n2\n3\n4\n5\n6\n"
    assert attempt.finish == "ok"


def test_a_step_waits_for_its_turn(attempt: AttemptDir) -> None:
    attempt.chain("true", "true")
    with attempt.start(2) as second:
        attempt.run(1)
        assert second.wait() == 0
    assert attempt.exit(2)["state"] == "exited"


def test_after_a_failure_only_steps_that_ask_for_it_run(attempt: AttemptDir) -> None:
    attempt.step(1, "exit 3", next=2)
    attempt.step(2, "true", next=3)
    attempt.step(3, "true", next=4, if_="failure")
    attempt.step(4, "true", next=5, if_="always")
    attempt.step(5, "true")
    assert attempt.run(1, 2, 3, 4, 5)[0] == 0
    assert [attempt.exit(n)["state"] for n in range(1, 6)] == ["exited", "skipped", "exited", "exited", "skipped"]
    assert [attempt.word(f"go/{n:03d}") for n in range(1, 6)] == ["ok", "failed", "failed", "failed", "failed"]
    assert attempt.finish == "failed"


def test_while_all_goes_well_a_failure_step_is_skipped_and_an_always_step_runs(attempt: AttemptDir) -> None:
    attempt.step(1, "true", next=2, if_="failure")
    attempt.step(2, "true", next=3, if_="always")
    attempt.step(3, "true", if_="success")
    attempt.run(1, 2, 3)
    assert [attempt.exit(n)["state"] for n in range(1, 4)] == ["skipped", "exited", "exited"]
    assert attempt.finish == "ok"


def test_a_skipped_step_has_no_code_and_does_not_count_as_failed(attempt: AttemptDir) -> None:
    attempt.step(1, "true", if_="failure")
    attempt.run(1)
    end = attempt.exit(1)
    assert "code" not in end
    assert (end["verdict"], end["tries"], end["duration_ns"], end["killed_for"]) == ("ok", "0", "0", "none")
    assert not attempt.path(1, "started").exists()


def test_a_failure_that_may_be_is_recorded_but_not_posted_on(attempt: AttemptDir) -> None:
    attempt.step(1, "exit 9", next=2, continue_on_error=1)
    attempt.step(2, "true")
    attempt.run(1, 2)
    assert (attempt.exit(1)["code"], attempt.exit(1)["verdict"]) == ("9", "ok")
    assert attempt.finish == "ok"


def test_a_failed_word_from_before_stays_failed_at_the_finish(attempt: AttemptDir) -> None:
    attempt.step(1, "true", if_="always")
    attempt.run(1, word="failed")
    assert attempt.exit(1)["verdict"] == "ok"
    assert attempt.finish == "failed"


def test_while_held_no_further_step_begins(attempt: AttemptDir) -> None:
    attempt.chain("touch ../attempt/hold; echo held", "true")
    attempt.go(1)
    with attempt.start(1, 2) as running:
        until_exists(attempt.root / "go" / "002")
        assert not attempt.path(2, "started").exists()
        (attempt.root / "hold").unlink()
        assert running.wait() == 0
    assert attempt.exit(2)["state"] == "exited"


def test_an_exit_that_is_there_is_passed_over_and_what_it_had_to_post_is_posted(attempt: AttemptDir) -> None:
    steps = attempt.chain("echo ran >> ran", "true")
    attempt.run(1)
    (attempt.root / "go" / "002").unlink()
    assert attempt.run(*steps)[0] == 0
    assert attempt.until_file("ran") == "ran\n"
    assert attempt.exit(2)["state"] == "exited"
    assert attempt.finish == "ok"


def test_a_failed_exit_that_is_passed_over_posts_on_its_failure(attempt: AttemptDir) -> None:
    steps = attempt.chain("false", "true")
    attempt.run(1)
    (attempt.root / "go" / "002").unlink()
    attempt.run(*steps)
    assert attempt.exit(2)["state"] == "skipped"
    assert attempt.finish == "failed"


def test_a_step_whose_end_nobody_knows_is_never_run_again(attempt: AttemptDir) -> None:
    attempt.step(1, "echo ran >> ran; exec sleep 1000")
    attempt.go(1)
    with attempt.start(1) as running:
        attempt.until_file("ran")
        running.signal(signal.SIGKILL)
        running.wait()
    before = sorted(path.name for path in attempt.path(1).iterdir())
    code, complaint = attempt.run(1)
    assert code == 70
    assert "not run again" in complaint
    assert complaint.count("\n") == 1
    assert sorted(path.name for path in attempt.path(1).iterdir()) == before
    assert attempt.until_file("ran") == "ran\n"
    assert attempt.finish is None


def test_a_start_record_that_lost_its_content_still_means_started(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    attempt.path(1, "started").touch()
    assert attempt.run(1)[0] == 70
    assert not attempt.has_exit(1)


def test_the_start_is_recorded_before_the_command_runs(attempt: AttemptDir) -> None:
    attempt.step(1, 'cat "$0"; echo self $$; cut -d" " -f22 /proc/$$/stat')
    argv = attempt.path(1, "argv")
    argv.write_bytes(argv.read_bytes() + bytes(attempt.path(1, "started")) + b"\0")
    attempt.run(1)
    lines = attempt.log(1).decode().splitlines()
    record = dict(line.split(" ") for line in lines[:5])
    assert record["pid"] == record["self"]
    assert record["pid_start_ticks"] == lines[5]
    assert record["try"] == "1"
    assert int(record["unix_ns"]) > 10**18


def test_of_two_entrypoints_for_one_step_only_one_runs_it(attempt: AttemptDir) -> None:
    attempt.step(1, "echo ran >> ran; read x < gate")
    os.mkfifo(attempt.work / "gate")
    with attempt.start(1) as one, attempt.start(1) as other:
        attempt.go(1)
        attempt.until_file("ran")
        first = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert first is not None
        (attempt.work / "gate").write_text("go\n")
        assert sorted([one.wait(), other.wait()]) == [0, 70]
    assert attempt.until_file("ran") == "ran\n"


def test_a_step_that_another_entrypoint_holds_is_left_alone(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    holder = os.open(attempt.path(1), os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    code, complaint = attempt.run(1)
    os.close(holder)
    assert (code, "another entrypoint" in complaint) == (70, True)
    assert not attempt.path(1, "started").exists()


@pytest.mark.parametrize("content", ["2\n", "", "1.1\n", "one\n"])
def test_an_entrypoint_that_reads_another_protocol_writes_nothing(attempt: AttemptDir, content: str) -> None:
    attempt.step(1, "true")
    attempt.go(1)
    (attempt.root / "protocol").write_text(content)
    before = sorted(attempt.root.rglob("*"))
    code, complaint = attempt.run(1)
    assert code == 70
    assert complaint.startswith("entrypoint: ")
    assert sorted(attempt.root.rglob("*")) == before


def test_empty_files_count_as_absent(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    for name in ("cancel", "finish", "go/001", "steps/001/exit"):
        (attempt.root / name).touch()
    with attempt.start(1) as running:
        attempt.go(1)
        assert running.wait() == 0
    assert attempt.exit(1)["state"] == "exited"
    assert attempt.finish == "ok"


def test_a_process_whose_turn_can_not_come_any_more_ends(attempt: AttemptDir) -> None:
    attempt.step(1, "true", next=2)
    attempt.step(2, "true", next=3)
    with attempt.start(2) as waiting:
        attempt.post("finish", "cancelled")
        assert waiting.wait() == 0
    assert (attempt.exit(2)["state"], attempt.exit(2)["killed_for"]) == ("skipped", "cancel")


def test_unknown_keys_of_a_later_edge_are_ignored(attempt: AttemptDir) -> None:
    attempt.step(1, "true", colour="blue", shades=7)
    assert attempt.run(1) == (0, "")


@pytest.mark.parametrize(
    ("key", "value"),
    [("mode", "sideways"), ("if", "maybe"), ("timeout_ms", "-1"), ("timeout_ms", "9x"), ("next", "7"), ("cwd", "here")],
)
def test_a_config_that_can_not_be_meant_is_refused_with_one_line(attempt: AttemptDir, key: str, value: str) -> None:
    attempt.step(1, "echo ran > ran")
    with attempt.path(1, "config").open("a") as config:
        config.write(f"{key} {value}\n")
    code, complaint = attempt.run(1)
    assert code == 70
    assert value in complaint
    assert complaint.count("\n") == 1
    assert not (attempt.work / "ran").exists()


@pytest.mark.parametrize("missing", ["config", "argv", "env"])
def test_a_missing_file_is_named(attempt: AttemptDir, missing: str) -> None:
    attempt.step(1, "true")
    attempt.path(1, missing).unlink()
    code, complaint = attempt.run(1)
    assert (code, f"steps/001/{missing}" in complaint) == (70, True)
    assert attempt.finish is None


@pytest.mark.parametrize("arguments", [[], ["1"], ["0001"], ["000"], ["abc"]])
def test_only_step_numbers_of_three_digits_are_taken(attempt: AttemptDir, arguments: list[str]) -> None:
    done = subprocess.run(
        [attempt.binary, "run", attempt.root, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 70
    assert "usage: entrypoint run" in done.stderr


def test_no_temporary_file_is_left(attempt: AttemptDir) -> None:
    steps = attempt.chain("true", "false", "true")
    attempt.run(*steps)
    assert list(attempt.root.rglob(".*")) == []


# A user namespace of its own has limits of its own: taking all the instances of this one would stop others' tests.
WITHOUT_INOTIFY = ["unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh"]


def test_waiting_needs_no_inotify(attempt: AttemptDir) -> None:
    """The ticker alone finds changes when inotify instances are used up."""
    if subprocess.run([*WITHOUT_INOTIFY, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs unshare and a kernel that lets us make user namespaces")
    attempt.chain("true", "touch ../attempt/up; sleep 1000")
    attempt.go(1)
    with attempt.start(1, 2, prefix=WITHOUT_INOTIFY) as running:
        until_exists(attempt.path(2, "started"))
        attempt.post("cancel", "cancel")
        assert running.wait() == 0
    assert [attempt.exit(n)["state"] for n in (1, 2)] == ["exited", "cancelled"]
