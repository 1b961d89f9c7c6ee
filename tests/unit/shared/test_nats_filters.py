import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import flow
from shared.adapters.nats_filters import covering, matcher

token = st.sampled_from(["a", "b", "c"])
part = st.sampled_from(["a", "b", "*"])
filters = st.builds(
    lambda parts, rest: ".".join([*parts, *rest]), st.lists(part, min_size=1, max_size=4), st.sampled_from([[], [">"]])
)


@given(st.lists(filters, max_size=4).map(tuple), st.lists(token, min_size=1, max_size=6).map(".".join))
def test_whatever_one_of_the_filters_matches_the_covering_one_matches(several: tuple[str, ...], subject: str) -> None:
    if matcher(several)(subject):
        assert matcher((covering(several),))(subject)


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ((), ">"),
        (("evt.*.x",), "evt.*.x"),
        ((flow.Evt.filter(kind="attempt-accepted"), flow.Evt.filter(epoch=0, kind="x")), "evt.*.*.*.*"),
        ((flow.Evt.filter(), flow.RecordCopy.filter()), "evt.*.*.>"),
        (("a.b", "c.d.e"), "*.>"),
        (("a", "a.b"), ">"),
    ],
)
def test_the_covering_filter_is_narrow(several: tuple[str, ...], one: str) -> None:
    assert covering(several) == one


def test_no_filter_matches_everything_and_a_filter_only_its_own() -> None:
    assert matcher(())("x.y")
    assert matcher(("a.*", "b.>"))("b.c.d")
    assert not matcher(("a.*", "b.>"))("b")
    assert not matcher(("a.*",))("a.b.c")
