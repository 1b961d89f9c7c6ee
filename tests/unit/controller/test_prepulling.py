"""What is kept warm on fixed nodes."""

from hypothesis import given
from hypothesis import strategies as st

from runner.controller.prepulling import Keeping, Usage, Worth, keep_warm, next_pulls
from runner.controller.prepulls import Yard, puller

RULES = Keeping(images=2, disk_bytes=100, min_uses=2, at_once=2)
worths = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(Worth, st.integers(0, 50), st.floats(0, 100), st.integers(0, 120)),
)


def test_what_saves_most_time_is_kept_not_what_is_used_most() -> None:
    worth = {"small": Worth(50, 0.2, 1), "large": Worth(5, 30.0, 80), "mid": Worth(10, 2.0, 10)}
    assert keep_warm(worth, (), RULES) == ("large", "mid")


def test_nothing_is_pulled_ahead_unless_asked_for() -> None:
    assert keep_warm({"a": Worth(50, 10.0, 1)}, (), Keeping()) == ()


def test_two_that_are_nearly_equal_do_not_take_turns() -> None:
    rules = Keeping(images=1, min_uses=1, hysteresis=1.5)
    one, other = {"a": Worth(10, 1.0, 1), "b": Worth(11, 1.0, 1)}, {"a": Worth(10, 1.0, 1), "b": Worth(16, 1.0, 1)}
    assert keep_warm(one, ("a",), rules) == ("a",)
    assert keep_warm(other, ("a",), rules) == ("b",)


@given(worths, st.frozensets(st.sampled_from("abcdefgh")))
def test_never_more_than_the_budget_and_nothing_rarely_used(worth: dict[str, Worth], kept: frozenset[str]) -> None:
    chosen = keep_warm(worth, kept, RULES)
    assert len(chosen) == len(set(chosen)) <= RULES.images
    assert sum(worth[image].size_bytes for image in chosen) <= RULES.disk_bytes
    assert all(worth[image].uses >= RULES.min_uses for image in chosen)


@given(worths, st.frozensets(st.sampled_from("abcdefgh")))
def test_without_news_the_choice_stays(worth: dict[str, Worth], kept: frozenset[str]) -> None:
    rules = Keeping(images=2, disk_bytes=10**9, min_uses=2)
    chosen = keep_warm(worth, kept, rules)
    assert set(keep_warm(worth, chosen, rules)) == set(chosen)


def test_uses_count_for_a_while_and_only_of_images_whose_pull_was_seen() -> None:
    usage = Usage()
    for at in (0.0, 50.0, 90.0):
        usage.used("a", at)
    usage.used("there-already", 90.0)
    usage.pulled("a", 4.0, 7)
    usage.pulled("never-used", 4.0, 7)
    assert usage.worth(100.0, 60.0) == {"a": Worth(2, 4.0, 7)}
    assert usage.worth(1000.0, 60.0) == {}


def test_a_node_pulls_one_image_at_a_time_and_the_cluster_a_few() -> None:
    nodes = {"n1": {"a"}, "n2": set[str](), "n3": set[str]()}
    assert next_pulls(("a", "b"), nodes, (), RULES) == [("n2", "a"), ("n3", "a")]
    assert next_pulls(("a", "b"), nodes, [("n2", "a")], RULES) == [("n3", "a")]
    assert next_pulls(("a",), {"n1": {"a"}}, (), RULES) == []


def test_the_pod_that_pulls_has_no_secret_no_account_and_requests_nothing() -> None:
    pod = puller(Yard("c1", "overspill", "amd64", {"pool": "fixed"}, priority_class="low"), "node-7", "python:3.13")
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert "imagePullSecrets" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["requests"] == {"cpu": "0", "memory": "0"}
    assert (spec["priorityClassName"], spec["nodeSelector"]) == ("low", {"pool": "fixed"})
    assert "nodeName" not in spec
    assert pod == puller(
        Yard("c1", "overspill", "amd64", {"pool": "fixed"}, priority_class="low"), "node-7", "python:3.13"
    ), "the same pull is the same pod"
