"""The log holds what the step wrote, byte for byte, and stdout never holds the step up."""

import os
import socket
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from attempt_dir import PATIENCE_SECONDS, AttemptDir

ALL_BYTES = bytes(range(256)) * 3


def records(attempt: AttemptDir, step: int) -> list[tuple[int, int]]:
    return list(struct.iter_unpack("<QQ", attempt.path(step, "log.idx").read_bytes()))


def test_the_log_has_stdout_and_stderr_byte_for_byte(attempt: AttemptDir) -> None:
    (attempt.work / "bytes").write_bytes(ALL_BYTES)
    attempt.step(1, "cat bytes; cat bytes >&2; printf 'no newline'")
    attempt.run(1)
    assert attempt.log(1) == ALL_BYTES * 2 + b"no newline"
    assert attempt.exit(1)["log_bytes"] == str(len(attempt.log(1)))
    assert attempt.exit(1)["log_dropped_bytes"] == "0"


def test_a_large_log_is_whole(attempt: AttemptDir) -> None:
    attempt.step(1, "seq 1 1500000")
    attempt.run(1)
    assert attempt.log(1) == "".join(f"{n}\n" for n in range(1, 1_500_001)).encode()


def test_the_index_is_monotone_and_its_offsets_are_in_the_log(attempt: AttemptDir) -> None:
    attempt.step(1, "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; sleep 0.03; echo late")
    attempt.run(1)
    found, end, log = records(attempt, 1), attempt.exit(1), attempt.log(1)
    assert found[0][0] == 0
    assert len(found) > 1
    for (offset, at), (next_offset, next_at) in pairwise(found):
        assert offset < next_offset < len(log)
        assert next_at - at >= 9_000_000  # one each 10 ms; the wall clock may be slewed
        assert log[next_offset - 1 : next_offset] == b"\n"
    assert int(end["started_unix_ns"]) <= found[0][1]
    assert found[-1][1] <= int(end["ended_unix_ns"])


def test_a_step_that_writes_nothing_has_an_empty_log(attempt: AttemptDir) -> None:
    attempt.step(1, "true")
    attempt.run(1)
    assert (attempt.log(1), records(attempt, 1)) == (b"", [])


def test_past_its_limit_the_log_says_so_in_its_last_line(attempt: AttemptDir) -> None:
    attempt.step(1, "printf 0123456789; printf abcdef; seq 1 1000", log_limit_bytes=12)
    attempt.run(1)
    head, last = attempt.log(1).split(b"\n", 1)
    assert head == b"0123456789ab"
    dropped = 16 + len("".join(f"{n}\n" for n in range(1, 1001))) - 12
    said = f"The log limit of 12 bytes is reached; what follows is dropped.\nThe log limit dropped {dropped} bytes.\n"
    assert last.decode() == said
    assert attempt.exit(1)["log_dropped_bytes"] == str(dropped)
    assert attempt.exit(1)["log_bytes"] == str(len(attempt.log(1)))


def test_a_log_exactly_at_its_limit_is_whole(attempt: AttemptDir) -> None:
    attempt.step(1, "printf 0123456789", log_limit_bytes=10)
    attempt.run(1)
    assert attempt.log(1) == b"0123456789"
    assert attempt.exit(1)["log_dropped_bytes"] == "0"


def test_the_limit_holds_over_all_tries(attempt: AttemptDir) -> None:
    attempt.step(1, "printf 01234567; exit 1", log_limit_bytes=10, retry=2)
    attempt.run(1)
    assert attempt.log(1).startswith(b"0123456701\n")
    assert attempt.log(1).endswith(b"dropped.\nThe log limit dropped 14 bytes.\n")
    assert attempt.log(1).count(b"limit") == 2
    assert attempt.exit(1)["log_dropped_bytes"] == "14"


def test_a_copy_goes_to_stdout_when_asked(attempt: AttemptDir) -> None:
    attempt.step(1, "echo to both; echo too >&2")
    attempt.go(1)
    with attempt.start(1, tee=True, stdout=subprocess.PIPE) as running:
        out, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert out == attempt.log(1) == b"to both\ntoo\n"


def test_without_being_asked_stdout_stays_empty(attempt: AttemptDir) -> None:
    attempt.step(1, "echo x")
    attempt.go(1)
    with attempt.start(1, stdout=subprocess.PIPE) as running:
        assert running.process.communicate(timeout=PATIENCE_SECONDS)[0] == b""


def test_a_stdout_nobody_reads_holds_nothing_up(attempt: AttemptDir) -> None:
    attempt.step(1, "seq 1 100000")
    attempt.go(1)
    reader, writer = os.pipe()
    with attempt.start(1, tee=True, stdout=writer) as running:
        assert running.wait() == 0  # nobody has read a byte until here
        assert os.get_blocking(writer)  # and the flags of what others share are as they were
    os.close(writer)
    assert attempt.log(1).startswith(os.read(reader, 4096))
    os.close(reader)
    assert attempt.log(1).count(b"\n") == 100_000


def test_a_timeout_comes_though_nobody_reads_stdout(attempt: AttemptDir) -> None:
    attempt.step(1, "exec yes", timeout_ms=200, log_limit_bytes=100_000)
    attempt.go(1)
    reader, writer = os.pipe()
    with attempt.start(1, tee=True, stdout=writer) as running:
        assert running.wait() == 0
    os.close(writer)
    os.close(reader)
    assert attempt.exit(1)["state"] == "timed_out"


def test_a_broken_stdout_holds_nothing_up(attempt: AttemptDir) -> None:
    attempt.step(1, "seq 1 100000")
    attempt.go(1)
    reader, writer = os.pipe()
    os.close(reader)
    with attempt.start(1, tee=True, stdout=writer) as running:
        assert running.wait() == 0
    os.close(writer)
    assert attempt.exit(1)["code"] == "0"
    assert attempt.log(1).count(b"\n") == 100_000


def test_a_socket_nobody_reads_holds_nothing_up(attempt: AttemptDir) -> None:
    attempt.step(1, "seq 1 200000")
    attempt.go(1)
    ours, theirs = socket.socketpair()
    with ours, theirs, attempt.start(1, tee=True, stdout=theirs.fileno()) as running:
        assert running.wait() == 0
        assert attempt.log(1).startswith(ours.recv(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pipe another user may not open")
def test_a_pipe_of_another_user_holds_nothing_up(attempt: AttemptDir) -> None:
    """As a container runtime's: it may not be opened anew, so it is polled."""
    attempt.step(1, "seq 1 100000", cwd="/")
    attempt.go(1)
    for path in [*attempt.root.rglob("*"), attempt.root]:
        os.chown(path, 65534, 65534)
    for parent in list(attempt.root.parents)[:-2]:
        parent.chmod(0o755)
    binary = attempt.root.parent / "entrypoint"
    binary.write_bytes(attempt.binary.read_bytes())
    binary.chmod(0o755)
    attempt.binary = binary
    reader, writer = os.pipe()
    with attempt.start(1, tee=True, stdout=writer, user=65534, group=65534, extra_groups=[]) as running:
        assert running.wait() == 0
    os.close(writer)
    assert attempt.log(1).startswith(os.read(reader, 65536))
    os.close(reader)
    assert attempt.log(1).count(b"\n") == 100_000


def test_a_file_as_stdout_gets_everything_after_what_was_there(attempt: AttemptDir) -> None:
    attempt.step(1, "seq 1 50000")
    attempt.go(1)
    copy = attempt.work / "copy"
    with copy.open("wb") as out:
        out.write(b"before\n")
        out.flush()
        with attempt.start(1, tee=True, stdout=out.fileno()) as running:
            assert running.wait() == 0
    assert copy.read_bytes() == b"before\n" + attempt.log(1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_takes_no_more_is_told_and_the_step_goes_on(attempt: AttemptDir) -> None:
    attempt.step(1, "echo lost; exit 0")
    attempt.path(1, "log").symlink_to("/dev/full")
    attempt.run(1)
    end = attempt.exit(1)
    assert (end["state"], end["verdict"], end["log_dropped_bytes"]) == ("exited", "ok", "5")
    assert "No space left" in end["message"]
