"""When the doors close before a disk is full, and what they say then."""

import pytest

from services.gateway.policy import LOG_UP_TO, STORE_UP_TO, why_no_room
from shared.flow import STREAMS
from shared.stream import Store

MIB = 2**20
HALF_FULL = Store(used_bytes=500 * MIB, limit_bytes=1000 * MIB, log_bytes=10 * MIB, log_limit_bytes=400 * MIB)


def test_with_room_everywhere_nothing_is_refused() -> None:
    assert why_no_room(HALF_FULL, 10_000 * MIB, 256 * MIB) is None


def test_a_bus_that_runs_elsewhere_is_judged_by_what_it_says_alone() -> None:
    assert why_no_room(HALF_FULL, None, 256 * MIB) is None


@pytest.mark.parametrize(
    ("store", "free", "said"),
    [
        (None, 100 * MIB, "the disk of the bus has 100 MiB left, and 256 MiB are kept for running jobs: free some"),
        (Store(850 * MIB, 1000 * MIB, 0, 400 * MIB), None, "the bus holds 850 MiB of the 1000 MiB it may store"),
        (Store(500 * MIB, 1000 * MIB, 320 * MIB, 400 * MIB), None, "320 MiB of logs wait for the object store"),
    ],
)
def test_the_reason_names_what_is_full_and_what_to_do(store: Store | None, free: int | None, said: str) -> None:
    why = why_no_room(store, free, 256 * MIB)
    assert why is not None
    assert said in why


def test_a_bus_whose_size_nobody_noted_is_not_held_to_one() -> None:
    assert why_no_room(Store(10**15, 0, 10**15, 0), None, 256 * MIB) is None


def test_what_streams_may_take_leaves_room_above_the_mark_for_what_runs() -> None:
    shares = [stream.share for stream in STREAMS]
    assert sum(shares) < STORE_UP_TO < 1
    assert 0 < LOG_UP_TO < 1
    unbounded = {stream.name for stream in STREAMS if stream.share == 0}
    assert {"JOBS", "EVT", "ORDERS", "DONE"} <= unbounded, "what ends a job must never be refused for its own size"
