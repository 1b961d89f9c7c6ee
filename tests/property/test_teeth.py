"""The machine of test_handlers.py catches a handler that is broken on purpose."""

import pytest

from tests.memory_bus.bus import MemoryDelivery
from tests.property.test_handlers import Disturbed


async def drop(delivery: MemoryDelivery, delay_seconds: float) -> None:
    """A handler that acknowledges what it could not do."""
    await delivery.ack()


def one_submission_gets_no_answer() -> None:
    machine = Disturbed()
    machine.time_passes(5.0)
    machine.writes_get_no_answer(["lost"] * 4)
    machine.submit("good", "rerun")
    machine.time_passes(1.0)
    machine.teardown()


def test_a_handler_that_acks_what_it_failed_to_do_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryDelivery, "retry", drop)
    with pytest.raises(AssertionError, match="None"):
        one_submission_gets_no_answer()


def test_the_same_disturbance_does_not_harm_the_handlers_as_they_are() -> None:
    one_submission_gets_no_answer()
