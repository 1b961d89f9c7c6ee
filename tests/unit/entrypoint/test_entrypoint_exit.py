"""How a step ended, and what its exit file says of it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attempt_dir import AttemptDir, strings


@pytest.mark.parametrize("codes", [range(64), range(64, 128), range(128, 192), range(192, 256)])
def test_every_exit_code_is_told_as_it_was(attempt: AttemptDir, codes: range) -> None:
    steps = attempt.chain(*[f"exit {code}" for code in codes], if_="always")
    attempt.run(*steps)
    for step, code in zip(steps, codes, strict=True):
        end = attempt.exit(step)
        assert (end["state"], end["code"], end["verdict"]) == ("exited", str(code), "ok" if code == 0 else "failed")
        assert "signal" not in end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP, signal.SIGPIPE])
def test_a_signal_is_told_with_its_number(attempt: AttemptDir, number: signal.Signals) -> None:
    attempt.step(1, f"ulimit -c 0; kill -{number.value} $$")
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["signal"], end["code"]) == ("signaled", str(number.value), str(128 + number))
    assert (end["killed_for"], end["verdict"]) == ("none", "failed")
    assert end["message"].startswith(f"Ended by signal {number.value}")


def test_the_exit_file_has_every_key_of_the_protocol(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    before = time.time_ns()
    attempt.run(1)
    after = time.time_ns()
    end = attempt.exit(1)
    assert set(end) == {
        *("state", "code", "killed_for", "verdict", "tries", "started_unix_ns", "ended_unix_ns", "duration_ns"),
        *("cpu_user_us", "cpu_system_us", "peak_memory_bytes", "oom_kills", "usage_from"),
        *("log_bytes", "log_dropped_bytes"),
    }
    assert before <= int(end["started_unix_ns"]) <= int(end["ended_unix_ns"]) <= after
    assert 0 < int(end["duration_ns"]) <= after - before
    assert end["usage_from"] == "rusage"
    assert int(end["peak_memory_bytes"]) > 0


def test_a_command_that_is_not_there_is_named_with_its_remedy(attempt: AttemptDir) -> None:
    attempt.step(1, ["no-such-tool", "x"])
    assert attempt.run(1)[0] == 0
    end = attempt.exit(1)
    assert (end["state"], end["code"], end["tries"], end["verdict"]) == ("not_started", "127", "0", "failed")
    assert "no-such-tool" in end["message"]
    assert "PATH" in end["message"]
    assert attempt.finish == "failed"


def test_a_file_that_may_not_be_executed_is_126(attempt: AttemptDir) -> None:
    (attempt.work / "tool").write_text("#!/bin/sh\n")
    attempt.step(1, ["./tool"])
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"]) == ("not_started", "126")
    assert "chmod +x" in end["message"]


@pytest.mark.parametrize(
    ("content", "code", "why"), [(b"#!/no/interpreter\n", "127", "interpreter"), (b"\x00\x01", "126", "#! line")]
)
def test_a_file_the_kernel_will_not_run_says_why(attempt: AttemptDir, content: bytes, code: str, why: str) -> None:
    (attempt.work / "tool").write_bytes(content)
    (attempt.work / "tool").chmod(0o755)
    attempt.step(1, ["./tool"])
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"], why in end["message"]) == ("not_started", code, True)


def test_a_missing_working_directory_is_named(attempt: AttemptDir) -> None:
    attempt.step(1, "true", cwd="/no/such/place")
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"], "/no/such/place" in end["message"]) == ("not_started", "126", True)


def test_arguments_the_kernel_will_not_take_are_told(attempt: AttemptDir) -> None:
    attempt.step(1, ["true", "x" * 200_000])
    attempt.run(1)
    assert attempt.exit(1)["code"] == "126"
    assert "larger than the kernel takes" in attempt.exit(1)["message"]


def test_a_message_is_one_line_of_utf8_whatever_the_command_is_called(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    attempt.path(1, "argv").write_bytes(strings([b"odd\xff\n\xc3\xa9"]))
    attempt.run(1)
    assert "odd? é" in attempt.exit(1)["message"]


def test_the_outcome_of_a_step_that_did_not_start_can_be_allowed(attempt: AttemptDir) -> None:
    attempt.step(1, ["no-such-tool"], continue_on_error=1)
    attempt.run(1)
    assert attempt.finish == "ok"


def test_a_failure_is_tried_again_as_often_as_asked(attempt: AttemptDir) -> None:
    attempt.step(1, "echo try >> tries; echo out; test $(wc -l < tries) -ge 3", retry=5)
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["code"], end["tries"], end["verdict"]) == ("0", "3", "ok")
    assert attempt.log(1) == b"out\nout\nout\n"
    assert "try 3\n" in attempt.path(1, "started").read_text()


def test_when_every_try_failed_the_last_one_counts(attempt: AttemptDir) -> None:
    attempt.step(1, "echo >> tries; exit $(wc -l < tries)", retry=2)
    attempt.run(1)
    assert (attempt.exit(1)["code"], attempt.exit(1)["tries"]) == ("3", "3")
    assert attempt.finish == "failed"


def test_a_try_that_took_too_long_is_tried_again(attempt: AttemptDir) -> None:
    attempt.step(1, "test -e seen || { touch seen; exec sleep 1000; }", retry=1, timeout_ms=500)
    attempt.run(1)
    assert (attempt.exit(1)["state"], attempt.exit(1)["tries"]) == ("exited", "2")


def test_a_further_try_begins_with_empty_outputs(attempt: AttemptDir) -> None:
    command = "echo bad >> $OVERSPILL_ENV; echo x >> $OVERSPILL_OUTPUT; test -e seen && : > $OVERSPILL_ENV; touch seen"
    attempt.step(1, command, retry=1)
    attempt.run(1)
    assert (attempt.exit(1)["verdict"], attempt.exit(1)["tries"]) == ("ok", "2")
    assert attempt.path(1, "output.out").read_text() == "x\n"


def test_a_command_that_is_not_there_is_not_looked_for_again(attempt: AttemptDir) -> None:
    attempt.step(1, ["no-such-tool"], retry=3)
    attempt.run(1)
    assert attempt.exit(1)["tries"] == "0"


def test_cpu_time_is_counted_over_the_whole_tree_and_all_tries(attempt: AttemptDir) -> None:
    burn = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
    attempt.step(1, f"({burn}); sh -c '{burn}'; exit 1", retry=1)
    attempt.step(2, f"{burn}; exit 1")
    attempt.run(1)
    attempt.run(2)
    four = int(attempt.exit(1)["cpu_user_us"]) + int(attempt.exit(1)["cpu_system_us"])
    one = int(attempt.exit(2)["cpu_user_us"]) + int(attempt.exit(2)["cpu_system_us"])
    assert four > 1.5 * one


def test_a_step_starts_as_the_leader_of_its_own_session(attempt: AttemptDir) -> None:
    attempt.step(1, ["cut", "-d ", "-f1,5,6", "/proc/self/stat"])
    attempt.run(1)
    pid, group, session = attempt.log(1).split()
    assert pid == group == session


def test_a_step_starts_with_no_signal_blocked_or_ignored(attempt: AttemptDir) -> None:
    attempt.step(1, ["grep", "^Sig[BIC]", "/proc/self/status"])
    attempt.go(1)
    # Python ignores SIGPIPE, and Popen would restore it.
    with attempt.start(1, restore_signals=False) as running:
        assert running.wait() == 0
    masks = dict(line.split(":\t") for line in attempt.log(1).decode().splitlines())
    assert set(masks) == {"SigBlk", "SigIgn", "SigCgt"}
    assert (int(masks["SigBlk"], 16), int(masks["SigIgn"], 16)) == (0, 0)


def test_a_step_inherits_no_descriptor_but_its_own_three(attempt: AttemptDir) -> None:
    attempt.step(1, ["ls", "-l", "/proc/self/fd"])
    attempt.go(1)
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        with attempt.start(1, close_fds=False) as running:
            assert running.wait() == 0
    finally:
        os.close(leak)
    found = [line.split()[-3::2] for line in attempt.log(1).decode().splitlines() if "->" in line]
    assert [number for number, _ in found] == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    assert found[0][1] == "/dev/null"
    assert found[1][1] == found[2][1]


# A memory cgroup of the step's own, in either version of the kernel's interface.
def memory_cgroup_root() -> Path | None:
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    if os.geteuid() != 0:
        return None
    if (v1 / "memory.limit_in_bytes").exists():
        return v1
    controllers = v2 / "cgroup.subtree_control"
    return v2 if controllers.exists() and "memory" in controllers.read_text().split() else None


ROOT = memory_cgroup_root()
needs_memory_cgroup = pytest.mark.skipif(ROOT is None, reason="needs root and a mounted memory cgroup hierarchy")


@pytest.fixture
def memory_cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    assert ROOT is not None
    group = ROOT / f"overspill-test-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"
    group.mkdir()
    for limit in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"):
        if (group / limit).exists():
            (group / limit).write_text(str(64 << 20))
    if (group / "memory.swap.max").exists():
        (group / "memory.swap.max").write_text("0")
    yield group
    group.rmdir()


@needs_memory_cgroup
def test_a_step_that_takes_too_much_memory_was_killed_for_it(attempt: AttemptDir, memory_cgroup: Path) -> None:
    attempt.step(1, "exec tail -c 190M < big", cgroups=[memory_cgroup])
    hog = ["python3", "-c", "x = b'x' * (200 << 20)"]
    attempt.path(1, "argv").write_bytes(strings(hog))
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["signal"], end["killed_for"]) == ("signaled", "9", "memory")
    assert int(end["oom_kills"]) >= 1
    assert end["usage_from"] == "cgroup"
    assert 32 << 20 < int(end["peak_memory_bytes"]) <= 65 << 20
    assert "memory" in end["message"]


@needs_memory_cgroup
def test_a_shell_that_passes_on_the_kill_of_its_child_was_killed_for_memory(
    attempt: AttemptDir, memory_cgroup: Path
) -> None:
    attempt.step(1, "python3 -c 'x = bytearray(200 << 20)'; exit $?", cgroups=[memory_cgroup])
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"], end["killed_for"]) == ("exited", "137", "memory")


@needs_memory_cgroup
def test_a_failure_after_a_kill_for_memory_keeps_its_code_and_is_named_for_memory(
    attempt: AttemptDir, memory_cgroup: Path
) -> None:
    attempt.step(1, "python3 -c 'x = bytearray(200 << 20)' || exit 4", cgroups=[memory_cgroup])
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"], end["killed_for"], end["verdict"]) == ("exited", "4", "memory", "failed")
    assert int(end["oom_kills"]) >= 1
    assert "of 64 MiB allowed; it exited with 4" in end["message"]


@needs_memory_cgroup
def test_a_kill_for_memory_the_step_lived_through_is_told_and_fails_nothing(
    attempt: AttemptDir, memory_cgroup: Path
) -> None:
    attempt.step(1, "python3 -c 'x = bytearray(200 << 20)' || true", cgroups=[memory_cgroup])
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["code"], end["killed_for"], end["verdict"], end["oom_kills"]) == ("0", "none", "ok", "1")
    assert end["message"].startswith("Out of memory: 1 of the step's processes killed")


@needs_memory_cgroup
def test_a_137_of_its_own_is_no_kill_for_memory(attempt: AttemptDir, memory_cgroup: Path) -> None:
    attempt.step(1, "exit 137", cgroups=[memory_cgroup])
    attempt.run(1)
    assert (attempt.exit(1)["killed_for"], attempt.exit(1)["oom_kills"]) == ("none", "0")


@needs_memory_cgroup
def test_an_earlier_trys_kill_is_not_blamed_for_a_later_end(attempt: AttemptDir, memory_cgroup: Path) -> None:
    attempt.step(
        1,
        "test -e seen && exit 137; touch seen; python3 -c 'x = bytearray(200 << 20)'",
        cgroups=[memory_cgroup],
        retry=1,
    )
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["tries"], end["code"], end["killed_for"]) == ("2", "137", "none")
    assert int(end["oom_kills"]) >= 1


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/sys/fs/cgroup/cpuacct/cpuacct.usage").exists(),
    reason="needs root and cpuacct of cgroup v1",
)
def test_cpu_time_comes_from_the_cgroup_when_there_is_one(attempt: AttemptDir) -> None:
    group = Path("/sys/fs/cgroup/cpuacct") / f"overspill-test-{os.getpid()}"
    group.mkdir()
    try:
        attempt.step(1, "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done", cgroups=[group])
        attempt.run(1)
        used = int((group / "cpuacct.usage").read_text()) // 1000
    finally:
        group.rmdir()
    end = attempt.exit(1)
    assert end["usage_from"] == "cgroup"
    assert 0 < int(end["cpu_user_us"]) + int(end["cpu_system_us"]) <= used


def test_figures_of_a_v2_cgroup_are_read(attempt: AttemptDir, tmp_path: Path) -> None:
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "cgroup.procs").touch()
    (group / "cpu.stat").write_text("usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n")
    (group / "memory.peak").write_text("4096000\n")
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n")
    attempt.step(1, "true", cgroups=[group])
    attempt.run(1)
    end = attempt.exit(1)
    names = ("cpu_user_us", "cpu_system_us", "peak_memory_bytes", "oom_kills", "usage_from", "killed_for")
    assert [end[name] for name in names] == ["20", "10", "4096000", "2", "cgroup", "none"]
    assert (group / "cgroup.procs").read_text() == "0"


def test_a_cgroup_that_is_not_there_stops_the_step(attempt: AttemptDir) -> None:
    attempt.step(1, "echo ran > ran", cgroups=[Path("/no/such/cgroup")])
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["code"], "/no/such/cgroup" in end["message"]) == ("not_started", "126", True)
    assert not (attempt.work / "ran").exists()
