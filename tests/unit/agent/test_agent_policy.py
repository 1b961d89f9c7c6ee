"""Reconciling orders with what is here."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.agent.model import Claim, Decline, Effect, End, Hold, Key, Local, Refuse, Release, View
from runner.agent.orders import OrderBook
from runner.agent.policy import free_capacity, reconcile
from shared.facts.order import Desired, Order
from shared.needs import Capacity, Needs

ROOM = Capacity(cpu_millis=4000, memory_bytes=4000, disk_bytes=4000)


def needs(cpu: int = 1000) -> Needs:
    return Needs(cpu_millis=cpu, memory_bytes=10, disk_bytes=10)


def order(job: str = "a", epoch: int = 1, desired: Desired = Desired.RUN, cpu: int = 1000, **more: object) -> Order:
    return Order.model_validate(
        {
            "tenant": "t",
            "job": job,
            "epoch": epoch,
            "cluster": "c",
            "target": "m",
            "desired": desired,
            "needs": needs(cpu),
            "on_lost": "rerun",
            "fence_seconds": 60,
            "timeout_seconds": 60,
            "term": 1,
        }
        | more,
    )


def local(job: str = "a", epoch: int = 1, phase: str = "running", cpu: int = 1000, **more: bool) -> Local:
    return Local(Key("t", job, epoch), needs(cpu), phase, **more)  # type: ignore[arg-type]


def decide(
    orders: Iterable[Order],
    locals_: Iterable[Local] = (),
    *,
    settled: Iterable[Key] = (),
    complete: bool = True,
    draining: bool = False,
) -> list[Effect]:
    view = View({Key.of(o): o for o in orders}, complete, tuple(locals_), frozenset(settled), ROOM, draining)
    return list(reconcile(view))


A, A2 = Key("t", "a", 1), Key("t", "a", 2)


@pytest.mark.parametrize(
    ("orders", "locals_", "expected"),
    [
        ([order()], [], [Claim(order())]),
        ([order(desired=Desired.HOLD)], [], [Claim(order(desired=Desired.HOLD))]),
        ([order(desired=Desired.CANCEL)], [], [Decline(order(desired=Desired.CANCEL))]),
        ([order(desired=Desired.TIMEOUT)], [], [Decline(order(desired=Desired.TIMEOUT))]),
        ([order()], [local()], []),
        ([order(desired=Desired.CANCEL)], [local()], [End(A, "cancel")]),
        ([order(desired=Desired.TIMEOUT)], [local()], [End(A, "timeout")]),
        ([order(desired=Desired.CANCEL)], [local(ending=True)], []),
        ([order(desired=Desired.CANCEL)], [local(phase="claiming")], [End(A, "cancel")]),
        ([order(desired=Desired.HOLD)], [local(phase="claiming")], []),
        ([], [local(phase="claiming")], [End(A, "stale")]),
        ([order(desired=Desired.HOLD)], [local()], [Hold(A)]),
        ([order(desired=Desired.HOLD)], [local(held=True)], []),
        ([order()], [local(held=True)], [Release(A)]),
        ([], [local()], [End(A, "stale")]),
        ([], [local(phase="finishing")], []),
        ([order(desired=Desired.CANCEL)], [local(phase="finishing")], [End(A, "cancel")]),
        ([order(desired=Desired.TIMEOUT)], [local(phase="finishing")], [End(A, "timeout")]),
        ([order(desired=Desired.CANCEL)], [local(phase="finishing", ending=True)], []),
        ([order(desired=Desired.HOLD)], [local(phase="finishing")], []),
        ([], [local(ending=True)], []),
        ([order(epoch=2)], [local()], [End(A, "stale"), Claim(order(epoch=2))]),
        ([order(epoch=1)], [local(epoch=2)], [End(A2, "stale")]),
    ],
)
def test_each_order_meets_what_is_here(orders: list[Order], locals_: list[Local], expected: list[Effect]) -> None:
    assert decide(orders, locals_) == expected


def test_nothing_is_ended_for_want_of_an_order_before_all_orders_are_known() -> None:
    assert decide([], [local()], complete=False) == []


def test_what_is_settled_is_not_claimed_again() -> None:
    assert decide([order()], settled=[A]) == []


def test_a_draining_machine_takes_nothing_new() -> None:
    (refused,) = decide([order()], draining=True)
    assert isinstance(refused, Refuse)
    assert "draining" in refused.why


def test_another_protocol_is_refused() -> None:
    (refused,) = decide([order(protocol=2)])
    assert isinstance(refused, Refuse)


def test_what_has_no_room_yet_waits_until_there_is() -> None:
    both = [order("a", cpu=3000), order("b", cpu=2000)]
    assert decide(both) == [Claim(order("a", cpu=3000))]
    assert decide(both, [local("a", cpu=3000)]) == []
    assert decide(both, [local("a", phase="finishing", cpu=3000)]) == [Claim(order("b", cpu=2000))]


def test_what_can_never_fit_is_refused_and_told_why() -> None:
    big = order("a", cpu=5000)
    assert decide([big]) == [Refuse(big, "it needs cpu_millis 5000, this machine has 4000")]


def test_a_finishing_attempt_gives_back_all_but_its_disk() -> None:
    free = free_capacity(ROOM, (local(phase="finishing"), local("b")))
    assert (free.cpu_millis, free.memory_bytes, free.disk_bytes) == (3000, 3990, 3980)


jobs = st.sampled_from("abcd")
epochs = st.integers(1, 3)
orders_ = st.builds(order, jobs, epochs, st.sampled_from(Desired), st.integers(1, 5000))
locals__ = st.builds(
    local,
    jobs,
    epochs,
    st.sampled_from(["claiming", "running", "finishing"]),
    st.integers(1, 5000),
    ending=st.booleans(),
    held=st.booleans(),
)


@given(
    st.lists(orders_, unique_by=Key.of, max_size=8),
    st.lists(locals__, unique_by=lambda each: each.key, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_whatever_comes_no_attempt_begins_twice_or_beyond_the_room(
    orders: list[Order], here: list[Local], complete: bool, draining: bool
) -> None:
    effects = decide(orders, here, complete=complete, draining=draining)
    claimed = [Key.of(effect.order) for effect in effects if isinstance(effect, Claim)]
    assert len(claimed) == len(set(claimed))
    assert not set(claimed) & {each.key for each in here}
    newest = {job: max(o.epoch for o in orders if o.job == job) for job in {o.job for o in orders}}
    assert all(key.epoch == newest[key.job] for key in claimed)
    if claimed:
        free = free_capacity(ROOM, tuple(here))
        taken = sum(e.order.needs.cpu_millis for e in effects if isinstance(e, Claim))
        assert taken <= free.cpu_millis
        assert not draining
    touched = [effect.key for effect in effects if isinstance(effect, End | Hold | Release)]
    assert len(touched) == len(set(touched))
    phases = {each.key: each.phase for each in here}
    assert set(touched) <= set(phases)
    finishing = [effect for effect in effects if isinstance(effect, End) and phases[effect.key] == "finishing"]
    assert all(effect.word in ("cancel", "timeout") for effect in finishing)
    assert not [e for e in effects if isinstance(e, Hold | Release) and phases[e.key] == "finishing"]


def test_a_live_order_outlives_a_list_asked_for_before_it_came() -> None:
    book = OrderBook()
    book.live(order("a"), at=10.0)
    book.told([order("b")], asked_at=9.0)
    assert set(book.orders) == {A, Key("t", "b", 1)}
    book.told([order("b")], asked_at=11.0)
    assert set(book.orders) == {Key("t", "b", 1)}


def test_an_order_of_an_older_leader_changes_nothing() -> None:
    book = OrderBook()
    book.live(order(desired=Desired.CANCEL, term=5), at=1.0)
    book.live(order(term=4), at=2.0)
    assert book.orders[A].desired is Desired.CANCEL
