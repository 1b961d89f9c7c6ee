"""A claim in doubt is decided by what stands in the stream."""

import pytest

from services.gateway.grants import check_claim
from services.gateway.refusals import NotPlacedHere
from shared.facts import AttemptAccepted
from shared.requests import GrantAsked


def accepted(claim: str) -> AttemptAccepted:
    return AttemptAccepted(tenant="t", job="j", epoch=1, at_unix_ns=0, cluster="c", machine="m", claim=claim)


def asked(claim: str | None) -> GrantAsked:
    return GrantAsked(tenant="t", job="j", epoch=1, claim=claim)


@pytest.mark.parametrize(
    ("stands", "ended"),
    [(accepted("another"), False), (accepted(""), False), (None, False), (accepted("mine"), True)],
)
def test_a_claim_in_doubt_is_refused_unless_it_stands_and_its_attempt_is_not_over(
    stands: AttemptAccepted | None, *, ended: bool
) -> None:
    with pytest.raises(NotPlacedHere):
        check_claim(stands, asked("mine"), ended=ended)


def test_a_claim_in_doubt_that_stands_is_granted() -> None:
    check_claim(accepted("mine"), asked("mine"), ended=False)


def test_a_claim_without_doubt_does_not_wait_for_its_acceptance() -> None:
    check_claim(None, asked(None), ended=False)
