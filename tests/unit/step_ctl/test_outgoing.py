"""What leaves an attempt: outputs, masked bytes, times of bytes."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.step_ctl.log_times import MAX_TIMES, LogTimes
from runner.step_ctl.masking import Mask
from runner.step_ctl.outputs import OUTPUT_LIMIT_BYTES, parse
from runner.step_ctl.platform_log import LIMIT_BYTES, PlatformLog


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", {}),
        (b"a=1\nb=2=3\n\na=4\n", {"a": "4", "b": "2=3"}),
        (b"a<<END\none\n\ntwo\nEND\nb=x", {"a": "one\n\ntwo", "b": "x"}),
        (b"a<<END\nEND\n", {"a": ""}),
        (b"\xff=1\n", None),
        (b"no line\n", None),
        (b"a<<END\nnever closed\n", None),
        (b"a=" + b"x" * OUTPUT_LIMIT_BYTES, None),
    ],
)
def test_outputs_are_taken_whole_or_not_at_all(data: bytes, values: dict[str, str] | None) -> None:
    outputs = parse(data)
    assert outputs.values == (values or {})
    assert bool(outputs.complaint) == (values is None)


SECRETS = [b"abab", b"ababc", b"zz", b"s3cret"]


@given(st.lists(st.sampled_from([*SECRETS, b"a", b"b", b"z", b"xy", b"s3c", b"\0"]), max_size=12), st.integers(1, 7))
def test_no_secret_passes_whatever_the_pieces_it_comes_in(words: list[bytes], size: int) -> None:
    data, mask = b"".join(words), Mask(SECRETS)
    out, at = b"", 0
    while at < len(data):
        end = min(at + size, len(data))
        while True:
            piece = data[at:end]
            covered = mask.cover(piece) if end == len(data) else mask.cover_open(piece)
            if covered or end == len(data):
                break
            end += 1
        out += covered
        at += len(covered)
    assert len(out) == len(data)
    assert not any(secret in out for secret in (b"zz", b"s3cret", b"abab"))


def test_without_secrets_every_byte_passes() -> None:
    assert Mask().cover_open(b"\0any\xff") == b"\0any\xff"
    assert Mask([b"x1"]).cover_text("ax1b") == "a**b"


def index(path: Path, records: list[tuple[int, int]]) -> LogTimes:
    path.write_bytes(b"".join(struct.pack("<QQ", offset, ms * 1_000_000) for offset, ms in records))
    return LogTimes(path)


def test_times_begin_where_the_chunk_does(tmp_path: Path) -> None:
    times = index(tmp_path / "log.idx", [(0, 1), (10, 2), (20, 3), (30, 4)])
    assert times.between(0, 10) == (((0, 1),), 10)
    assert times.between(15, 25) == (((15, 2), (20, 3)), 25)
    assert times.between(30, 90) == (((30, 4),), 90)
    times.close()


def test_a_chunk_with_too_many_times_is_cut_and_loses_none(tmp_path: Path) -> None:
    times = index(tmp_path / "log.idx", [(n, n) for n in range(MAX_TIMES + 5)])
    first, cut = times.between(0, 10_000)
    assert (len(first), cut) == (MAX_TIMES, MAX_TIMES)
    assert times.between(cut, 10_000)[0][0] == (MAX_TIMES, MAX_TIMES)
    times.close()


def test_bytes_before_their_index_still_get_a_time(tmp_path: Path) -> None:
    times = LogTimes(tmp_path / "log.idx")
    (((offset, ms),), end) = times.between(5, 9)
    assert (offset, end) == (5, 9)
    assert ms > 0


def test_the_platforms_log_is_bounded_and_says_so(tmp_path: Path) -> None:
    log = PlatformLog(tmp_path)
    log.line("hello")
    log.write(b"x" * LIMIT_BYTES)
    log.line("never")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"hello\n\nThe platform's log is full; what follows is dropped.\n"
    again = PlatformLog(tmp_path)
    again.line("restarted")
    again.close()
    assert (tmp_path / "log").read_bytes().endswith(b"restarted\n")
