"""What a controller remembers, and for how long."""

from runner.controller.memory import Known
from shared.facts.order import Desired
from tests.unit.controller.test_policy import KEY, order, pod


def test_a_wish_counts_from_when_it_changed() -> None:
    known = Known()
    known.book.told([order()], 0.0)
    known.refresh(1.0)
    known.book.told([order()], 2.0)
    known.refresh(3.0)
    assert known.wants[KEY] == (Desired.RUN, 1.0)
    known.book.told([order(desired=Desired.CANCEL)], 4.0)
    known.refresh(5.0)
    assert known.wants[KEY] == (Desired.CANCEL, 5.0)


def test_an_order_s_end_counts_from_when_it_was_missed_while_its_pod_is_there() -> None:
    known = Known(listed=True)
    known.see(pod(), 0.0)
    known.book.told([order()], 0.0)
    known.refresh(1.0)
    known.book.told([], 2.0)
    known.refresh(3.0)
    known.refresh(9.0)
    assert known.wants[KEY] == (None, 3.0)


def test_what_a_pod_is_counts_from_when_it_began_and_no_longer_than_it_lasts() -> None:
    known = Known()
    waiting = pod(phase="Pending", unschedulable="no")
    known.see(waiting, 1.0)
    known.see(waiting, 2.0)
    assert known.marked_at == {(KEY, "unschedulable"): 1.0}
    known.see(pod(), 3.0)
    known.see(waiting, 4.0)
    assert known.marked_at == {(KEY, "unschedulable"): 4.0}
    known.lose(KEY)
    assert known.marked_at == {}


def test_a_pod_of_ours_that_is_gone_is_missed_until_it_is_seen_again() -> None:
    known = Known(listed=True)
    known.book.told([order()], 0.0)
    known.see(pod(), 0.0)
    known.refresh(1.0)
    known.lose(KEY)
    known.refresh(2.0)
    known.refresh(3.0)
    assert known.missing_at == {KEY: 2.0}
    known.see(pod(), 4.0)
    assert known.missing_at == {}


def test_nothing_is_remembered_of_what_is_over() -> None:
    known = Known(listed=True)
    known.book.told([order()], 0.0)
    known.see(pod(), 0.0)
    known.told.add(KEY)
    known.refresh(1.0)
    known.lose(KEY)
    known.book.told([], 2.0)
    known.refresh(3.0)
    assert (known.claimed, known.told, known.wants, known.missing_at) == (set(), set(), {}, {})
