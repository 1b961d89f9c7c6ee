"""What is a pod's alone: containers that come late, die and come back."""

import pytest

from tests.behaviour.pod import PodPlace

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_the_image_sets_is_below_a_steps_environment(pods: PodPlace) -> None:
    run = await pods.submit({"steps": [{"run": "echo $IMAGE $OWN", "env": {"OWN": "too"}}]})
    assert (await run.ended()).outcome == "succeeded"
    assert await run.log(1) == b"its own too\n"
    assert await run.left() == []
