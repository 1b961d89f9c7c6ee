"""What an order asks of an attempt that hears it itself."""

import pytest

from runner.step_ctl.desired import Known, Wish, heard, told
from shared.facts import Desired, Order
from shared.needs import Needs

OURS = Known(epoch=2, term=5)


def order(desired: Desired = Desired.RUN, *, epoch: int = 2, term: int = 5) -> Order:
    return Order(
        tenant="t", job="j", epoch=epoch, cluster="c", target="kube", desired=desired,
        needs=Needs(cpu_millis=1, memory_bytes=1, disk_bytes=1), on_lost="rerun", fence_seconds=60,
        timeout_seconds=60, term=term,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("desired", "wish"),
    [
        (Desired.RUN, "run"),
        (Desired.HOLD, "hold"),
        (Desired.CANCEL, "cancel"),
        (Desired.TIMEOUT, "timeout"),
    ],
)
def test_an_order_for_us_is_obeyed_however_it_is_learnt(desired: Desired, wish: Wish) -> None:
    assert heard(OURS, order(desired))[1] == told(OURS, order(desired))[1] == wish


def test_an_older_leaders_order_changes_nothing() -> None:
    known, wish = heard(OURS, order(Desired.CANCEL, term=6))
    assert (known.term, wish) == (6, "cancel")
    assert heard(known, order(Desired.RUN, term=5)) == (known, None)


def test_a_later_attempt_makes_ours_stale() -> None:
    assert heard(OURS, order(epoch=3, term=1))[1] == told(OURS, order(epoch=3, term=1))[1] == "stale"


def test_an_earlier_attempts_order_says_nothing_when_it_comes_and_that_ours_is_gone_when_it_is_the_newest() -> None:
    assert heard(OURS, order(Desired.CANCEL, epoch=1))[1] is None
    assert told(OURS, order(epoch=1))[1] == told(OURS, None)[1] == "stale"
