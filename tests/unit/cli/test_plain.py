"""A followed job as lines: nothing is lost, nothing twice, and each line stands in its step."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from overspill.view.plain import Plain
from overspill.view.screen import opening
from tests.unit.cli.test_screen import ended, record, started

JOB = {"id": "j", "name": "build", "steps": [{"step": n, "name": f"s{n}"} for n in (1, 2, 3)]}


def lines_of(*happenings: Any, background: frozenset[int] = frozenset()) -> list[str]:
    plain = Plain(opening(JOB, background), unicode=False)
    out = b""
    for happening in happenings:
        if isinstance(happening[1], bytes):
            out += b"".join(plain.wrote(1, *happening))
        else:
            out += b"".join(plain.told(*happening))
    return (out + b"".join(plain.over())).decode().splitlines()


def test_a_steps_lines_stand_between_its_header_and_its_end_though_facts_overtake_the_log() -> None:
    shown = lines_of(
        record("placed", 1),
        started(1),
        ended(1, log_bytes=8),
        started(2),
        (1, b"one\n"),
        (1, b"two\n"),
        (2, b"three"),
        ended(2, log_bytes=5),
        ended(3, state="skipped", log_bytes=0),
        record("succeeded", 1),
    )
    assert shown == [
        "> s1 (1/3)", "one", "two", "ok s1 (1/3) in 1.00 s",
        "> s2 (2/3)", "three", "ok s2 (2/3) in 1.00 s",
        "- s3 (3/3) skipped",
        "ok build succeeded",
    ]  # fmt: skip


def test_a_later_steps_log_that_overtakes_an_earlier_ones_waits_for_it() -> None:
    shown = lines_of(
        record("placed", 1),
        started(1),
        (1, b"one\n"),
        ended(1, log_bytes=12),
        started(2),
        (2, b"two\n"),
        (1, b"late\n"),
        (1, b"er\n"),
        ended(2, log_bytes=4),
        record("succeeded", 1),
    )
    assert shown[:6] == ["> s1 (1/3)", "one", "late", "er", "ok s1 (1/3) in 1.00 s", "> s2 (2/3)"]
    assert shown[6] == "two"


def test_a_log_that_never_came_whole_is_shown_as_far_as_it_came() -> None:
    shown = lines_of(
        record("placed", 1),
        started(1),
        (1, b"one\n"),
        ended(1, log_bytes=400),
        started(2),
        (2, b"two\n"),
        ended(2, log_bytes=4),
        record("error", 1),
    )
    assert [line for line in shown if line in ("one", "two")] == ["one", "two"]


def test_a_background_steps_long_line_comes_whole() -> None:
    shown = lines_of(record("placed", 1), started(1), *[(1, b"b" * 50_000)] * 6, background=frozenset({1}))
    assert sum(line.count("b") - line.count("background") for line in shown if line.startswith("[s1] b")) == 300_000


def test_log_that_overtakes_the_facts_waits_for_nothing() -> None:
    plain = Plain(opening(JOB), unicode=False)
    list(plain.told(*record("placed", 1)))
    assert b"".join(plain.wrote(1, 1, b"early\n")) == b"> s1 (1/3)\nearly\n"


def test_a_background_steps_lines_carry_its_name() -> None:
    shown = lines_of(
        record("placed", 1),
        started(1),
        (1, b"up\nhalf"),
        started(2),
        (2, b"mine\n"),
        (1, b" line\n"),
        ended(2, log_bytes=5),
        ended(1, state="ended", log_bytes=13),
        record("succeeded", 1),
        background=frozenset({1}),
    )
    assert shown[:5] == ["> s1 (1/3) in the background", "[s1] up", "> s2 (2/3)", "mine", "[s1] half line"]


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    plain = Plain(opening(JOB), unicode=False)
    list(plain.told(*record("placed", 1)))
    assert b"\xff\x00\x1b[31m\r\n" in b"".join(plain.wrote(1, 1, b"\xff\x00\x1b[31m\r\n"))


def test_a_lost_attempt_is_said_and_its_rest_is_not_shown_as_the_new_ones() -> None:
    shown = lines_of(record("placed", 1), started(1), (1, b"old\n"), record("placed", 2), ended(1))
    assert "! attempt 1 was lost; attempt 2 begins" in shown
    assert not any(line.startswith("ok s1") for line in shown)


@given(st.data())
def test_whatever_the_interleaving_every_byte_is_shown_once_and_in_order(data: st.DataObject) -> None:
    logs = {n: [f"{n}.{k}\n".encode() for k in range(data.draw(st.integers(0, 4)))] for n in (1, 2, 3)}
    facts = [fact for n in (1, 2, 3) for fact in (started(n), ended(n, log_bytes=sum(map(len, logs[n]))))]
    chunks = [(n, chunk) for n in (1, 2, 3) for chunk in logs[n]]
    happenings: list[Any] = [record("placed", 1)]
    while facts or chunks:
        source = facts if not chunks or (facts and data.draw(st.booleans())) else chunks
        happenings.append(source.pop(0))
    shown = lines_of(*happenings, record("succeeded", 1))
    body = [line for line in shown if line[0].isdigit()]
    assert body == [chunk.decode().strip() for n in (1, 2, 3) for chunk in logs[n]]
    for n in (1, 2, 3):
        assert shown.count(f"> s{n} (${n}/3)".replace("$", "")) == 1
        assert shown.count(f"ok s{n} ({n}/3) in 1.00 s") == 1
