"""Capacity summed up over time."""

from services.cluster_metrics.counting import Amount, Tally, due, look

THERE = {("c", "p"): Amount(4.0, 100.0), ("d", "p"): Amount(1.0, 1.0)}
NS = 1_000_000_000


def test_what_there_is_counts_for_as_long_as_it_is_watched() -> None:
    tally = Tally()
    assert look(tally, THERE, 10.0) == {}
    assert look(tally, THERE, 10.5)["c", "p"] == Amount(2.0, 50.0)
    look(tally, THERE, 11.0)
    assert tally.sums["c", "p"] == Amount(4.0, 100.0)


def test_time_that_nobody_watched_is_not_counted_and_a_clock_that_goes_back_adds_nothing() -> None:
    tally = Tally()
    look(tally, THERE, 10.0)
    assert look(tally, THERE, 100.0) == {}
    assert look(tally, THERE, 90.0) == {}
    assert look(tally, THERE, 91.0)["d", "p"] == Amount(1.0, 1.0)


def test_each_stretch_of_the_wall_clock_is_told_once_for_each_cluster() -> None:
    tally = Tally()
    assert list(due(tally, 61 * NS, 60)) == []
    look(tally, THERE, 1.0)
    look(tally, THERE, 2.0)
    assert list(due(tally, 119 * NS, 60)) == []
    told = list(due(tally, 121 * NS, 60))
    assert [(fact.cluster, fact.pools[0].core_seconds) for fact in told] == [("c", 4.0), ("d", 1.0)]
    assert (told[0].since_unix_ns, told[0].until_unix_ns) == (61 * NS, 121 * NS)
    assert list(due(tally, 122 * NS, 60)) == []
