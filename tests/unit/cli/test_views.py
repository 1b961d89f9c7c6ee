"""Words, bars and tables."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from overspill.view.live import closing, picture
from overspill.view.screen import fold, opening
from overspill.view.tail import KEPT_LINES, Tail
from overspill.view.timeline import bars, draw, split
from overspill.view.words import ago, duration, harmless, size
from tests.unit.cli.test_screen import JOB, ended, record, started


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (9.94, "9.94 s"), (9.99, "10.0 s"), (59.99, "1 m 00 s"), (185, "3 m 05 s"), (7440, "2 h 04 m")],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_and_ages() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [ago(0, n) for n in (-1, 59, 3600, 90_000)] == ["0 s ago", "59 s ago", "1 h ago", "1 d ago"]


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b]0;title\x07",
        "\x1b]52;c;ZXZpbA==\x1b\\",
        "\x1b[2J",
        "\x1b[1;1H",
        "\x1bc",
        "\x9b2J",
        "\x07",
        "\x1bP1;2q\x1b\\",
        "\r",
    ],
)
def test_what_would_steer_a_terminal_goes_and_colours_stay(attack: str) -> None:
    assert harmless(f"a{attack}b\x1b[31mred\x1b[0m") == "ab\x1b[31mred\x1b[0m"


@given(st.text())
def test_nothing_but_colours_ever_passes(text: str) -> None:
    passed = harmless(text)
    assert "\x1b" not in passed.replace("\x1b[", "") or "\x1b]" not in passed
    assert not any(ord(letter) < 32 and letter not in "\t\n\x1b" for letter in passed)


VIEW: dict[str, Any] = {
    "created": "2026-01-31T12:00:00.000Z",
    "steps": [
        {"step": 1, "name": "build", "state": "exited", "verdict": "ok", "duration_seconds": 3.0,
         "started": "2026-01-31T12:00:01.000Z"},
        {"step": 2, "name": "never", "state": "pending", "verdict": None, "started": None, "duration_seconds": None},
    ],
    "times": {
        "queue_seconds": 0.5, "start_seconds": 0.5, "handover_seconds": 0.01, "user_seconds": 3.0,
        "finish_seconds": 0.2, "verdict_seconds": 0.1, "system_seconds": 1.31, "total_seconds": 4.31,
    },
}  # fmt: skip


def test_the_timeline_has_a_bar_for_each_part_in_the_order_of_time() -> None:
    rows = bars(VIEW, 0)
    assert [row.label for row in rows] == ["queue", "start", "1 build", "finish"]
    assert [round(row.begin_seconds, 3) for row in rows] == [0.0, 0.5, 1.0, 4.0]


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_line_of_the_timeline_is_wider_than_asked(unicode: bool, width: int) -> None:
    lines = [line for _, line in draw(bars(VIEW, 0), width, unicode=unicode)]
    assert len(lines) == 4
    assert all(len(line) <= max(width, 7 + 15 + 8 + 10) for line in lines)


def test_system_time_and_user_time_are_told_apart() -> None:
    assert split(VIEW["times"]).startswith("system time 1.31 s (queue 0.50 s, start 0.50 s")
    assert "user time 3.00 s" in split(VIEW["times"])


def test_the_tail_is_bounded_and_shows_rewritten_lines_as_a_terminal_would() -> None:
    tail = Tail()
    tail.add(1, b"\n".join(b"%d" % n for n in range(1000)) + b"\n10%\r20%")
    assert tail.last(1, 2) == ["999", "20%"]
    assert len(tail.last(1, 10_000)) == KEPT_LINES + 1
    assert tail.last(1, 0) == tail.last(2, 5) == []


@pytest.mark.parametrize("height", [1, 5, 24, 200])
def test_the_live_picture_fits_the_screen(height: int) -> None:
    job = {**JOB, "steps": [{"step": n, "name": f"step {n}"} for n in range(1, 101)]}
    screen, tail = opening(job), Tail()
    for fact in (record("placed", 1), *(fact for n in range(1, 50) for fact in (started(n), ended(n))), started(50)):
        screen = fold(screen, *fact)
    tail.add(50, b"line\n" * 500)
    console = Console(width=80, height=height, file=Path("/dev/null").open("w"), force_terminal=True)  # noqa: SIM115
    with console.capture() as got:
        console.print(picture(screen, tail, 60.0, height))
    console.file.close()
    assert len(got.get().splitlines()) <= max(height, 4)
    if height >= 5:
        assert "step 50" in got.get()


def test_what_stays_on_the_terminal_ends_with_the_log_of_what_failed() -> None:
    screen, tail = opening(JOB), Tail()
    for fact in (record("placed", 1), started(1), ended(1, verdict="failed", exit_code=2)):
        screen = fold(screen, *fact)
    tail.add(1, b"the reason\n")
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(closing(screen, tail, 0))
    console.file.close()
    text = console.export_text()
    assert "exit code 2" in text
    assert "the reason" in text
