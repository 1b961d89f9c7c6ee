"""What is said to be missing of a log: never too little, never of what was not begun."""

import pytest

from services.gateway.log_reading.missing import AttemptLogs, Missing, missing_end
from shared.requests import LogTold

LOST = AttemptLogs(started=True, steps={1: None, 2: 500})
ENDED = AttemptLogs(started=True, told_by_runner=True, steps={1: 500})


@pytest.mark.parametrize(
    ("step", "facts", "end", "written", "missing"),
    [
        (1, LOST, 100, 100, Missing(0, at_least=True)),
        (1, LOST, 100, 250, Missing(150, at_least=True)),
        (1, LOST, 0, 0, Missing(0, at_least=True)),
        (2, LOST, 100, 250, Missing(400)),
        (2, LOST, 500, 500, None),
        (3, LOST, 0, 0, None),
        (3, LOST, 7, 7, Missing(0, at_least=True)),
        (0, LOST, 0, 0, Missing(0, at_least=True)),
        (0, AttemptLogs(), 0, 0, None),
        (1, ENDED, 0, 0, Missing(500, expired=True)),
        (1, ENDED, 500, 500, None),
    ],
)
def test_what_lacks_at_the_end_of_a_log(
    step: int, facts: AttemptLogs, end: int, written: int, missing: Missing | None
) -> None:
    told = LogTold(offset=0, end=end, complete=False, written_bytes=written)
    assert missing_end(told, step, facts) == missing


def test_of_a_complete_log_nothing_lacks_whatever_facts_say() -> None:
    assert missing_end(LogTold(offset=0, end=3, complete=True), 2, LOST) is None


def test_notices_say_how_much_as_far_as_it_is_known() -> None:
    assert Missing(12).notice == "[overspill: 12 bytes of this log were lost with their machine]"
    assert "at least 12 bytes" in Missing(12, at_least=True).notice
    assert "an unknown number of bytes at the end" in Missing(0, at_least=True).notice
    assert Missing(12, expired=True).notice == "[overspill: 12 bytes of this log are no longer kept]"
