"""Images that are there already make a machine better, never possible or impossible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.images import canonical, image_token
from shared.placement import Amount, Fleet, Machine, Target, Want, Why
from shared.placement.rank import TRAITS

IMAGES = ("a", "b", "c")
some_images = st.frozensets(st.sampled_from(IMAGES))
rooms = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 8), some_images, st.sampled_from(("fixed", "serverless"))), max_size=8
)


@given(rooms, st.integers(1, 8), some_images)
def test_warm_is_never_preferred_over_what_fits_or_is_owned(
    there: list[tuple[int, int, frozenset[str], str]], cpus: int, images: frozenset[str]
) -> None:
    fleet, want = Fleet(), Want("t", Amount(cpus, 0, 0), frozenset(), containers=True)
    for number, (size, taken, held, kind) in enumerate(there):
        target = Target("c", f"n{number}")
        fleet.put(
            Machine(target, kind, kind, "ready", "pod", frozenset(), Amount(size, 0, 0), images=held)  # type: ignore[arg-type]  # a sampled word
        )
        fleet.reserve(target, Amount(min(size, taken), 0, 0))
    cold, warm = fleet.choose(want), fleet.choose(want, images)
    if isinstance(cold, Why):
        assert warm == cold
        return
    assert isinstance(warm, Target)
    chosen, fitting = fleet.machine(warm), [m for m in fleet if want.needs.fits(fleet.free(m))]
    assert chosen in fitting
    least = min(TRAITS[m.kind].preference for m in fitting)
    assert TRAITS[chosen.kind].preference == least
    same_kind = [m for m in fitting if TRAITS[m.kind].preference == least]
    assert len(images - chosen.images) == min(len(images - m.images) for m in same_kind)


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.13", "docker.io/library/python:3.13"),
        ("acme/tool", "docker.io/acme/tool:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("ghcr.io/a/b@sha256:0", "ghcr.io/a/b@sha256:0"),
    ],
)
def test_an_image_is_one_whatever_it_is_called(image: str, full: str) -> None:
    assert canonical(image) == full
    assert image_token(image) == image_token(full)
