"""Followed logs for pipes and terminals; server-sent events cut anywhere."""

import random
from collections.abc import AsyncIterator

import pytest

from overspill.following import Wrote
from overspill.sse import events_of, lines_of
from overspill.view.log_lines import LONGEST_LINE_BYTES, Harmless, OneLog, SeveralLogs, Stamps

ODD = "a\x0bb\x0cc\x1cd\x1ee\x85f\u2028g\u2029h"


async def cut(data: bytes, seed: int) -> AsyncIterator[bytes]:
    chance, at = random.Random(seed), 0
    while at < len(data):
        length = chance.randrange(1, 9)
        yield data[at : at + length]
        at += length


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_events_are_the_same_however_they_are_cut(seed: int, end: str) -> None:
    lines = [
        "id: 1",
        "event: log",
        f"data: {ODD}",
        "data: more",
        "",
        ": still here",
        "",
        "event: end",
        "data: x",
        "",
        "",
    ]
    events = [event async for event in events_of(lines_of(cut(end.join(lines).encode(), seed)))]
    told = [(event.event, event.data, event.id) for event in events]
    assert told == [("log", f"{ODD}\nmore", "1"), ("end", "x", "1")]


def pieces(step: int, *texts: bytes) -> list[Wrote]:
    made, offset = [], 0
    for text in texts:
        made.append(Wrote(1, step, offset, text, ((offset, 1000 * offset),)))
        offset += len(text)
    return made


def test_lines_of_steps_that_run_side_by_side_do_not_mix() -> None:
    lines = SeveralLogs(None)
    first, second = pieces(1, b"one ", b"and two\nthr", b"ee"), pieces(2, b"uno\ndos", b" y tres")
    order = [first[0], second[0], first[1], second[1], first[2]]
    assert b"".join(map(lines.add, order)) + lines.rest() == b"uno\none and two\nthree\ndos y tres\n"


def test_a_line_without_end_is_not_kept_in_memory() -> None:
    lines, block = SeveralLogs(None), b"x" * 65_536
    shown, fed = 0, 0
    for piece in pieces(1, *[block] * 99):
        fed += len(piece.data)
        shown += len(lines.add(piece))
        assert fed - shown <= LONGEST_LINE_BYTES
    assert shown + len(lines.rest().rstrip(b"\n")) == fed


def test_one_log_is_passed_on_as_it_comes() -> None:
    log = OneLog(None)
    assert [log.add(piece) for piece in pieces(1, b"a\r", b"\nb", b"\xff")] == [b"a\r", b"\nb", b"\xff"]


def test_a_notice_stands_on_a_line_of_its_own() -> None:
    log = OneLog(None)
    lost = Wrote(1, 1, 9, b"", missing_bytes=4, notice="[lost]")
    assert log.add(Wrote(1, 1, 0, b"mid")) + log.add(lost) == b"mid\n[lost]\n"
    assert log.add(Wrote(1, 1, 3, b"line\n")) + log.add(lost) == b"line\n[lost]\n"


def test_each_line_has_the_time_its_first_byte_came() -> None:
    stamped = b"".join(map(Stamps().stamp, pieces(1, b"a\rb", b"c\nd", b"e\n")))
    assert stamped == b"1970-01-01T00:00:00.000Z a\rbc\n1970-01-01T00:00:03.000Z de\n"


@pytest.mark.parametrize("what", [b"\x1b[31m", "é".encode(), "😀".encode(), b"\x1b]0;title\x07"])
def test_a_long_line_on_a_terminal_is_cut_neither_in_a_sequence_nor_in_a_character(what: bytes) -> None:
    whole = b"x" * (LONGEST_LINE_BYTES - 2) + what * 5 + b"y\n"
    at_once = Harmless().add(whole)
    for at in range(LONGEST_LINE_BYTES - 2, len(whole)):
        terminal = Harmless()
        assert terminal.add(whole[:at]) + terminal.add(whole[at:]) + terminal.end() == at_once
