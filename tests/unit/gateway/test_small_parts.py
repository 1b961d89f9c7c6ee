"""The pure parts of the HTTP door."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.auth.rates import Rates
from services.gateway.guard import check_host, check_origin, host_name
from services.gateway.log_reading.following import Positions
from services.gateway.log_reading.live import WAITING_CHUNKS, LiveChunk, Waiting, Wake
from services.gateway.log_reading.ranges import parse_range
from services.gateway.log_reading.stamping import Stamper
from services.gateway.projection.reading import Cursor
from services.gateway.refusals import BadRequest, RangeUnsatisfiable
from services.gateway.routes.reading_input import idempotency_key, instant_ns, label
from services.gateway.sse import bytes_field, log_id, resume_log, resume_seq
from shared.errors import Rejected
from shared.facts.log import LogChunk


@given(st.text(max_size=40), st.integers(0, 10**12))
def test_any_range_header_is_a_valid_range_or_ignored_or_416(header: str, total: int) -> None:
    try:
        found = parse_range(header, total)
    except RangeUnsatisfiable:
        return
    assert found is None or 0 <= found[0] < found[1] <= total


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 1000))
def test_a_range_is_what_rfc_9110_says(start: int, last: int, total: int) -> None:
    header = f"bytes={start}-{last}"
    if last < start:
        assert parse_range(header, total) is None
    elif start >= total:
        with pytest.raises(Rejected):
            parse_range(header, total)
    else:
        assert parse_range(header, total) == (start, min(last, total - 1) + 1)


@given(st.text(max_size=60))
def test_garbage_is_a_4xx_everywhere(text: str) -> None:
    for read in (
        Cursor.decode,
        resume_seq,
        resume_log,
        idempotency_key,
        label,
        lambda given: instant_ns("since", given),
    ):
        with contextlib.suppress(BadRequest):
            read(text)


@given(st.integers(0, 2**63 - 1), st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True))
def test_cursors_come_back(created: int, job: str) -> None:
    assert Cursor.decode(Cursor(created, job).encode()) == Cursor(created, job)


@given(st.integers(1, 999), st.dictionaries(st.integers(0, 999), st.integers(1, 10**17), max_size=20))
def test_log_ids_come_back(epoch: int, offsets: dict[int, int]) -> None:
    assert resume_log(log_id(epoch, offsets)) == (epoch, offsets)


@pytest.mark.parametrize("host", ["127.0.0.1:80", "LOCALHOST", "[::1]:8080", "localhost"])
def test_own_names_are_answered(host: str) -> None:
    check_host(host, ["127.0.0.1", "localhost", "[::1]"])


@pytest.mark.parametrize(
    "host", [None, "", "evil", "127.0.0.1.evil", "localhost@evil", "[::2]", "evil:127.0.0.1", "[::1"]
)
def test_other_names_are_not(host: str | None) -> None:
    if host == "[::1":
        assert host_name(host) == "[::1]"
        return
    with pytest.raises(Rejected):
        check_host(host, ["127.0.0.1", "localhost", "[::1]"])


def test_an_allowed_origin_may_call() -> None:
    check_origin("https://ui.example", "cross-site", "api.example", ["https://ui.example"])
    with pytest.raises(Rejected):
        check_origin("https://ui.example.evil", None, "api.example", ["https://ui.example"])


def test_a_rate_is_held_over_time_and_a_burst_is_bounded() -> None:
    rates = Rates()
    assert [rates.take("t", 10, 3, 0.0) for _ in range(4)] == [0, 0, 0, 0.1]
    assert rates.take("t", 10, 3, 0.11) == 0
    assert rates.take("t", 10, 3, 0.12) > 0
    assert [rates.take("t", 10, 3, 1000.0) > 0 for _ in range(4)] == [False, False, False, True]
    assert rates.take("other", 10, 3, 0.12) == 0
    assert rates.take("t", 10, 3, 0.0) > 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_stamping_does_not_depend_on_how_the_log_was_cut(data: bytes, cuts: list[int]) -> None:
    times = [(0, 1000), (50, 2000), (120, 3000)]
    whole = Stamper().stamp(0, data, times)
    stamper, parts = Stamper(), b""
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(bounds):
        parts += stamper.stamp(begin, data[begin:end], times)
    assert parts == whole


@given(st.data(), st.binary(min_size=1, max_size=300))
def test_a_follower_shows_every_byte_once_whatever_arrives(data: st.DataObject, log: bytes) -> None:
    positions, shown = Positions(1), bytearray()
    for _ in range(data.draw(st.integers(0, 20))):
        begin = data.draw(st.integers(0, len(log)))
        end = data.draw(st.integers(begin, len(log)))
        chunk = LiveChunk(1, 1, LogChunk(begin, log[begin:end]))
        if not positions.fits(chunk):
            shown += log[len(shown) : begin]
            positions.advance(1, begin)
        piece = positions.take(chunk)
        if piece is not None:
            assert piece.offset == len(shown)
            shown += piece.data
        assert bytes(shown) == log[: len(shown)]
        assert positions.offsets.get(1, 0) == len(shown)


async def test_a_slow_follower_is_told_to_read_again_and_holds_a_bounded_number() -> None:
    waiting = Waiting()
    for at in range(WAITING_CHUNKS + 1):
        waiting.put(LiveChunk(1, 1, LogChunk(at, b"x")))
    assert await waiting.next(1) is Wake.MISSED
    waiting.tell()
    waiting.tell()
    assert await waiting.next(1) is Wake.JOB_CHANGED
    assert await waiting.next(0.001) is Wake.MISSED


@given(st.binary(max_size=50))
def test_bytes_travel_whole_in_json(data: bytes) -> None:
    import base64

    field = bytes_field(data)
    assert (base64.b64decode(field["base64"]) if "base64" in field else field["text"].encode()) == data
