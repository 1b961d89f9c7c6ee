from hypothesis import given
from hypothesis import strategies as st

from services.gateway.pacing import LAPSE_SECONDS, Pacing


def test_a_burst_comes_in_at_once_and_the_next_ones_one_after_another() -> None:
    pacing = Pacing()
    waits = [pacing.wait("a", seq, per_second=2, burst=3, now_seconds=100.0) for seq in range(6)]
    assert waits == [0, 0, 0, 0.5, 1.0, 1.5]


def test_one_tenants_flood_holds_up_no_other() -> None:
    pacing = Pacing()
    for seq in range(1000):
        pacing.wait("a", seq, per_second=1, burst=1, now_seconds=0.0)
    assert pacing.wait("b", 1000, per_second=1, burst=1, now_seconds=0.0) == 0


def test_what_was_sent_away_comes_in_at_its_turn_and_takes_nobody_elses() -> None:
    pacing = Pacing()
    assert [pacing.wait("a", seq, 1, 1, 0.0) for seq in (1, 2, 3)] == [0, 1, 2]
    assert pacing.wait("a", 2, 1, 1, 0.5) == 0.5, "too early: the same turn"
    assert pacing.wait("a", 2, 1, 1, 1.0) == 0
    assert pacing.wait("a", 3, 1, 1, 2.0) == 0
    assert pacing.wait("a", 4, 1, 1, 2.0) == 1, "one a second, however often one was asked about"


def test_a_turn_that_nobody_came_for_is_forgotten_so_memory_stays_bounded() -> None:
    pacing = Pacing()
    for seq in range(10):
        pacing.wait("a", seq, 1, 1, 0.0)
    late = 20 + LAPSE_SECONDS
    pacing.wait("a", 100, 1, 1, late)
    assert pacing.wait("a", 101, 1, 1, late) == 1
    assert len(pacing._lanes["a"].booked) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 5)), max_size=60), st.integers(1, 5), st.floats(0.2, 50))
def test_never_more_come_in_than_burst_and_rate_allow(
    arrivals: list[tuple[int, float]], burst: int, rate: float
) -> None:
    pacing, now, entered, seen = Pacing(), 0.0, [], set()
    for seq, after in arrivals:
        now += after
        if seq not in seen and pacing.wait("a", seq, rate, burst, now) == 0:
            seen.add(seq)
            entered.append(now)
    for count, at in enumerate(entered, 1):
        assert count <= burst + at * rate + 1e-6
