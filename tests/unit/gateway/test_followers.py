"""Followers are told, bounded, and forgotten."""

from contextlib import ExitStack

import pytest

from services.gateway.projection.followers import Followers, News
from services.gateway.refusals import TooManyFollowers


async def test_news_of_a_job_reaches_its_followers_and_no_others() -> None:
    followers, mine, other = Followers(9, 9, 9), News(), News()
    with followers.follow(("t", "a"), mine), followers.follow(("t", "b"), other):
        followers.tell([("t", "a"), ("x", "y")])
        assert await mine.wait(1)
        assert not await mine.wait(0.001)
        assert not await other.wait(0.001)
        followers.close()
        assert await mine.wait(1)


@pytest.mark.parametrize(("limits", "says"), [((2, 9, 9), "gateway"), ((9, 2, 9), "tenant t"), ((9, 9, 2), "job a")])
def test_more_than_the_limit_are_refused_until_one_leaves(limits: tuple[int, int, int], says: str) -> None:
    followers = Followers(*limits)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(followers.follow(("t", "a"), News()))
        with pytest.raises(TooManyFollowers, match=says):
            followers.check(("t", "a"))
    followers.check(("t", "a"))
