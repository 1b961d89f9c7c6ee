"""Nothing of a guarded command outlives who holds its lifeline; and the binary's small commands."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attempt_dir import PATIENCE_SECONDS, AttemptDir, alive, pids_in, until_exists, until_gone

DAEMON = "import os, signal\nfor _ in range(2):\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
DAEMON += (
    "signal.signal(15, signal.SIG_IGN)\nopen('d.new', 'w').write(str(os.getpid()))\nos.rename('d.new', 'daemon')\n"
)
DAEMON += "signal.pause()\n"


@contextmanager
def guarded(entrypoint: Path, cwd: Path, command: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A guarded shell command and the end of its lifeline that we hold."""
    theirs, ours = os.pipe()
    argv = [entrypoint, "guard", "--lifeline", str(theirs), *options, "--", "/bin/sh", "-c", command]
    process = subprocess.Popen(argv, cwd=cwd, pass_fds=[theirs], stderr=subprocess.PIPE)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
        os.close(ours)


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 9", 9), ("kill -9 $$", 137), ("kill $$", 143)])
def test_a_guard_exits_with_its_commands_code(entrypoint: Path, tmp_path: Path, command: str, code: int) -> None:
    with guarded(entrypoint, tmp_path, command) as (process, _):
        assert process.wait(PATIENCE_SECONDS) == code


def test_a_command_that_is_not_there_is_named(entrypoint: Path) -> None:
    theirs, ours = os.pipe()
    argv = [entrypoint, "guard", "--lifeline", str(theirs), "--", "no-such-tool"]
    done = subprocess.run(argv, pass_fds=[theirs], check=False, capture_output=True, text=True)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 127
    assert "no-such-tool" in done.stderr


def test_a_guarded_command_does_not_hold_the_lifeline_itself(entrypoint: Path, tmp_path: Path) -> None:
    with guarded(entrypoint, tmp_path, "ls -l /proc/self/fd > fds") as (process, _):
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "pipe:" not in "".join(line for line in (tmp_path / "fds").read_text().splitlines() if " 2 -> " not in line)


def test_a_guard_without_stdin_gives_its_command_an_empty_one(entrypoint: Path) -> None:
    theirs, ours = os.pipe()
    command = f"exec {entrypoint} guard --lifeline {theirs} -- cat <&-"
    done = subprocess.run(["/bin/sh", "-c", command], check=False, pass_fds=[theirs], capture_output=True)
    os.close(theirs)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_a_guarded_command_leaves_behind_goes_with_it(entrypoint: Path, tmp_path: Path) -> None:
    (tmp_path / "d.py").write_text(DAEMON)
    with guarded(entrypoint, tmp_path, "python3 d.py; while ! test -e daemon; do sleep 0.01; done") as (process, _):
        assert process.wait(PATIENCE_SECONDS) == 0
    assert not alive(pids_in(tmp_path / "daemon")[0])


def test_a_kill_9_of_who_holds_the_lifeline_leaves_nothing_behind(entrypoint: Path, tmp_path: Path) -> None:
    (tmp_path / "d.py").write_text(DAEMON)
    holder = textwrap.dedent(f"""
        import os, signal, subprocess
        theirs, ours = os.pipe()
        command = "trap '' TERM; python3 d.py; (sleep 1000; :) & echo $$ $! > pids; while :; do sleep 1000; done"
        guard = ["{entrypoint}", "guard", "--lifeline", str(theirs), "--grace", "50", "--", "/bin/sh", "-c", command]
        process = subprocess.Popen(guard, pass_fds=[theirs])
        os.close(theirs)
        open("g.new", "w").write(str(process.pid)); os.rename("g.new", "guard")
        signal.pause()
    """)
    process = subprocess.Popen([sys.executable, "-c", holder], cwd=tmp_path)
    pids = [pid for name in ("pids", "daemon", "guard") for pid in pids_in(until_exists(tmp_path / name))]
    process.kill()
    process.wait()
    for pid in pids:
        until_gone(pid)


def test_when_the_lifeline_is_cut_the_command_may_end_in_order(entrypoint: Path, tmp_path: Path) -> None:
    command = "trap 'echo > bye; exit 4' TERM; echo > up; while :; do sleep 0.02; done"
    with guarded(entrypoint, tmp_path, command) as (process, ours):
        until_exists(tmp_path / "up")
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, ours)  # the last holder lets go
        os.close(null)
        assert process.wait(PATIENCE_SECONDS) == 4
    assert (tmp_path / "bye").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_ends_the_command(entrypoint: Path, tmp_path: Path, number: signal.Signals) -> None:
    with guarded(entrypoint, tmp_path, "echo $$ > up; exec sleep 1000") as (process, _):
        until_exists(tmp_path / "up")
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 143
    assert not alive(pids_in(tmp_path / "up")[0])


def test_what_is_written_into_the_lifeline_cuts_nothing(entrypoint: Path, tmp_path: Path) -> None:
    with guarded(entrypoint, tmp_path, "echo > up; while ! test -e out; do sleep 0.02; done; exit 3") as (
        process,
        ours,
    ):
        until_exists(tmp_path / "up")
        os.write(ours, b"still here")
        (tmp_path / "out").touch()
        assert process.wait(PATIENCE_SECONDS) == 3


def test_a_killed_guard_asks_its_command_to_end(entrypoint: Path, tmp_path: Path) -> None:
    command = "trap 'echo > bye; exit' TERM; echo $$ > up; while :; do sleep 0.02; done"
    with guarded(entrypoint, tmp_path, command) as (process, _):
        until_exists(tmp_path / "up")
        process.kill()
        until_gone(pids_in(tmp_path / "up")[0])
    assert (tmp_path / "bye").exists()


def test_a_guarded_entrypoint_leaves_nothing_of_its_step(attempt: AttemptDir, tmp_path: Path) -> None:
    attempt.step(1, f"cd {tmp_path}; python3 d.py; echo $$ > up; exec sleep 1000")
    (tmp_path / "d.py").write_text(DAEMON)
    attempt.go(1)
    with guarded(attempt.binary, tmp_path, f"exec {attempt.binary} run {attempt.root} 001", "--grace", "60000") as (
        process,
        _,
    ):
        pids = [pid for name in ("up", "daemon") for pid in pids_in(until_exists(tmp_path / name))]
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert [pid for pid in pids if alive(pid)] == []
    assert attempt.exit(1)["state"] == "cancelled"


@pytest.mark.parametrize(
    "arguments",
    [[], ["guard"], ["guard", "--lifeline", "x", "--", "true"], ["guard", "--lifeline", "0"], ["dance"], ["install"]],
)
def test_a_wrong_call_is_answered_with_one_line(entrypoint: Path, arguments: list[str]) -> None:
    done = subprocess.run([entrypoint, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1


def test_it_tells_its_version(entrypoint: Path) -> None:
    assert (
        subprocess.run([entrypoint, "version"], check=False, capture_output=True).stdout == b"overspill-entrypoint 1\n"
    )


@pytest.mark.parametrize("into", ["", "here"])
def test_it_installs_itself_where_every_user_can_run_it(entrypoint: Path, tmp_path: Path, into: str) -> None:
    target = tmp_path / into if into else tmp_path
    old_mask = os.umask(0o077)
    try:
        subprocess.run([entrypoint, "install", target], check=True)
        subprocess.run([entrypoint, "install", target], check=True)  # over itself, though it may be running
    finally:
        os.umask(old_mask)
    copy = target if into else target / "entrypoint"
    assert copy.read_bytes() == entrypoint.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]


def test_who_holds_namespaces_for_others_does_so_until_it_is_told_to_end(entrypoint: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # inherited: told too early, it waits for it
    try:
        process = subprocess.Popen([entrypoint, "hold"])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 0
