"""Whatever way chunks come, the parts are the log."""

import hashlib
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.log_collector import policy
from services.log_collector.model import PartName, Span, Spans
from services.log_collector.policy import Limits, LogBuffer, WaitUntil, Write
from shared.facts.log import LogChunk

LIMITS = Limits(part_bytes=1000, age_seconds=5, hole_seconds=30)


def feed(buffer: LogBuffer, *chunks: LogChunk, now: float = 0.0, seq: int = 1) -> None:
    for number, chunk in enumerate(chunks):
        policy.append(buffer, chunk, seq + number, 1000, now)


def perform(buffer: LogBuffer, now: float) -> list[Write]:
    """Every write that is due, done at once."""
    writes = []
    while isinstance(write := policy.decide(buffer, now, LIMITS), Write):
        policy.start(buffer, write)
        policy.wrote(buffer, now)
        writes.append(write)
    return writes


def chunk(offset: int, data: bytes, total: int | None = None) -> LogChunk:
    return LogChunk(offset, data, ((offset, 7),), total, "aa" if total is not None else None)


def text(writes: list[Write]) -> bytes:
    return b"".join(piece.data for write in writes for piece in write.pieces)


def test_a_young_small_chunk_waits_for_its_age() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"hello"), now=10)
    assert policy.decide(buffer, 10, LIMITS) == WaitUntil(15)
    [write] = perform(buffer, 15)
    assert (write.start, write.stop, write.end) == (0, 5, None)
    assert buffer.idle
    assert policy.decide(buffer, 99, LIMITS) is None


def test_a_full_part_is_written_at_once_and_no_larger_than_a_part() -> None:
    buffer = LogBuffer()
    limits = Limits(part_bytes=100_000, age_seconds=5, hole_seconds=30)
    for offset in range(0, 150_000, 30_000):
        assert isinstance(policy.decide(buffer, 0, limits), WaitUntil | None)
        feed(buffer, chunk(offset, b"x" * 30_000))
        if offset < 90_000:
            continue
        write = policy.decide(buffer, 0, limits)
        assert isinstance(write, Write)
        assert (write.start, write.stop) == (0, 90_000)
        return


def test_the_last_chunk_is_written_at_once_with_the_end() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"hello"), chunk(5, b"", total=5))
    [write] = perform(buffer, 0)
    assert write.end is not None
    assert write.end.total == 5
    assert buffer.complete


def test_an_empty_log_has_an_end_too() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"", total=0))
    [write] = perform(buffer, 0)
    assert (write.pieces, write.start, write.end is not None) == ((), 0, True)
    assert buffer.complete


def test_a_chunk_that_comes_twice_or_overlaps_counts_once() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"0123456789"), chunk(0, b"0123456789"), chunk(5, b"56789abc"), chunk(2, b"23"))
    assert text(perform(buffer, 5)) == b"0123456789abc"
    feed(buffer, chunk(0, b"0123456789abcdef"), now=6)
    assert text(perform(buffer, 11)) == b"def"


def test_a_hole_does_not_hold_up_what_came_after_it_and_is_filled_when_its_bytes_come() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"0123"), chunk(8, b"89"), now=0)
    assert [(write.start, write.stop) for write in perform(buffer, 5)] == [(0, 4), (8, 10)]
    assert buffer.durable.prefix_end == 4
    assert policy.holes(buffer, 29, LIMITS) == []
    assert policy.holes(buffer, 30, LIMITS) == [Span(4, 8)]
    feed(buffer, chunk(4, b"4567"), now=40)
    assert policy.holes(buffer, 40, LIMITS) == []
    perform(buffer, 45)
    assert buffer.durable.prefix_end == 10


def test_a_log_that_ends_with_a_hole_ends_when_the_hole_is_given_up() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"0123"), chunk(8, b"89", total=10), now=0)
    assert [write.end for write in perform(buffer, 5)] == [None, None]
    assert policy.decide(buffer, 6, LIMITS) == WaitUntil(30)
    [write] = perform(buffer, 30)
    assert write.end is not None
    assert (buffer.ended, buffer.complete) == (True, False)
    assert policy.holes(buffer, 30, LIMITS) == [Span(4, 8)]


def test_bytes_missing_before_an_empty_last_chunk_are_a_hole() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"0123"), chunk(10, b"", total=10), now=0)
    perform(buffer, 5)
    assert not buffer.ended
    perform(buffer, 30)
    assert policy.holes(buffer, 30, LIMITS) == [Span(4, 10)]


def test_flush_writes_what_waits_now() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"x"))
    buffer.flush = True
    assert text(perform(buffer, 0)) == b"x"
    assert not buffer.flush


def test_while_a_write_is_under_way_its_bytes_are_known_and_no_other_begins() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(0, b"0123"))
    write = policy.decide(buffer, 5, LIMITS)
    assert isinstance(write, Write)
    policy.start(buffer, write)
    feed(buffer, chunk(0, b"0123"), chunk(2, b"2345"), now=5)
    assert policy.decide(buffer, 99, LIMITS) is None
    assert [piece.data for piece in buffer.unwritten()] == [b"0123", b"45"]


def test_the_oldest_message_that_is_not_durable_holds_the_checkpoint() -> None:
    buffer = LogBuffer()
    feed(buffer, chunk(4, b"4567"), seq=10)
    feed(buffer, chunk(0, b"0123"), seq=11)
    assert buffer.oldest_seq() == 10
    feed(buffer, chunk(8, b"", total=9), seq=12)
    perform(buffer, 5)
    assert buffer.oldest_seq() == 12
    feed(buffer, chunk(8, b"8"), seq=13)
    perform(buffer, 10)
    assert buffer.oldest_seq() is None


def test_what_the_store_has_is_not_written_again() -> None:
    buffer = LogBuffer.stored(Spans([Span(0, 6)]), None, 0.0)
    feed(buffer, chunk(0, b"0123456789", total=10))
    [write] = perform(buffer, 0)
    assert (write.start, text([write])) == (6, b"6789")
    done = LogBuffer.stored(Spans([Span(0, 6)]), 6, 0.0)
    feed(done, chunk(0, b"012345", total=6))
    assert perform(done, 99) == []
    assert done.complete


def test_each_byte_keeps_the_time_it_came() -> None:
    buffer = LogBuffer()
    policy.append(buffer, LogChunk(0, b"0123456789", ((0, 100), (3, 200), (7, 300))), 1, 999, 0)
    policy.append(buffer, LogChunk(5, b"56789abcde", ((5, 250), (12, 400))), 2, 999, 0)
    policy.append(buffer, LogChunk(15, b"f"), 3, 999, 0)
    [write] = perform(buffer, 5)
    assert [piece.times for piece in write.pieces] == [
        ((0, 100), (3, 200), (7, 300)),
        ((10, 250), (12, 400)),
        ((15, 999),),
    ]


def test_single_bytes_are_charged_for_what_they_cost() -> None:
    buffer = LogBuffer()
    feed(buffer, *(chunk(offset, b"x") for offset in range(10)))
    assert buffer.held_bytes >= 10 * 100
    perform(buffer, 5)
    assert buffer.held_bytes == 0


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[bytes, list[LogChunk]]:
    """A log, and its chunks as they may come: cut anywhere, again and again, in any order."""
    data = draw(st.binary(max_size=400))
    whole = hashlib.sha256(data).hexdigest()
    chunks: list[LogChunk] = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
        chunks += [LogChunk(a, data[a:b], ((a, a),)) for a, b in pairwise(cuts)]
    tail = draw(st.integers(0, len(data)))
    chunks.append(LogChunk(tail, data[tail:], (), len(data), whole))
    return data, draw(st.permutations(chunks))


@settings(max_examples=300, deadline=None)
@given(deliveries(), st.integers(0, 2**32))
def test_any_split_repetition_and_order_give_the_same_bytes(delivery: tuple[bytes, list[LogChunk]], seed: int) -> None:
    data, chunks = delivery
    chance, limits = random.Random(seed), Limits(64, 5, 30)
    buffer, now, stored = LogBuffer(), 0.0, dict[int, int]()

    def step() -> None:
        write = policy.decide(buffer, now, limits)
        if not isinstance(write, Write):
            return
        policy.start(buffer, write)
        if chance.random() < 0.3:
            policy.failed(buffer)
            return
        for piece in write.pieces:
            for index, byte in enumerate(piece.data):
                # No byte is stored twice.
                assert piece.start + index not in stored
                stored[piece.start + index] = byte
        policy.wrote(buffer, now)

    for seq, each in enumerate(chunks, 1):
        policy.append(buffer, each, seq, 5, now)
        now += chance.choice((0, 0, 1, 6))
        step()
        assert buffer.known_bytes == sum(end - start for start, end in buffer.known().items)
    for _ in range(2000):
        if buffer.idle:
            break
        now += 1
        step()
    assert bytes(stored[offset] for offset in sorted(stored)) == data
    assert len(stored) == len(data)
    assert buffer.complete
    assert buffer.held_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12))), st.tuples(st.integers(0, 60), st.integers(0, 30)))
def test_spans_are_the_set_of_their_bytes(adds: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    spans, model = Spans(), set[int]()
    for start, size in adds:
        spans.add(Span(start, start + size))
        model |= set(range(start, start + size))
    assert {byte for span in spans.items for byte in range(*span)} == model
    assert all(a.end < b.start for a, b in pairwise(spans.items))
    wanted = Span(asked[0], sum(asked))
    assert [byte for span in spans.without(wanted) for byte in range(*span)] == sorted(set(range(*wanted)) - model)
    assert spans.covers(wanted) == (set(range(*wanted)) <= model)


@pytest.mark.parametrize(
    "name",
    [PartName(0, 5, 1, 9, "w"), PartName(7, 7, 0, 1, "w", ends=True), PartName(10**12, 10**12 + 1, 10**12, 1, "w")],
)
def test_a_part_name_survives_its_key(name: PartName) -> None:
    from services.log_collector.model import LogId

    assert PartName.read(name.key(LogId("t", "j", 1, 2))) == name
