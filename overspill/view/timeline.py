"""Where a job's time went: a bar for each part, from the API's view of the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overspill.view.words import duration, mark, seconds_of

SYSTEM, USER = "system", "user"
_EIGHTHS = "▏▎▍▌▋▊▉█"
_LABEL_CHARACTERS = 32
_WORTH_TELLING_SECONDS = 0.05
_SMALLEST_BAR = 10
_FURNITURE = 15
"""Columns for a mark, the duration and what stands between."""
_WORD = 9
"""Columns of a mark in words."""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    begin_seconds: float
    """After the job was created."""
    length_seconds: float
    kind: str
    state: str = ""


def bars(job: Mapping[str, Any], now_seconds: float) -> list[Bar]:
    """In the order of time; steps that never ran have none."""
    created = seconds_of(job["created"]) or 0.0
    times = job["times"]
    queue = times.get("queue_seconds")
    rows = [Bar("queue", 0.0, queue, SYSTEM)] if queue is not None else []
    start = times.get("start_seconds")
    if start is not None and queue is not None:
        rows.append(Bar("start", queue, start, SYSTEM))
    end = (queue or 0.0) + (start or 0.0)
    for step in job["steps"]:
        began = seconds_of(step["started"])
        if began is None:
            continue
        took = step["duration_seconds"]
        length = took if took is not None else max(0.0, now_seconds - began)
        # Clocks of two machines may disagree.
        begin = max(0.0, began - created)
        rows.append(Bar(f"{step['step']} {step['name']}", begin, length, USER, _state(step)))
        end = max(end, begin + length)
    finish = times.get("finish_seconds")
    if finish is not None:
        rows.append(Bar("finish", end, finish + (times.get("verdict_seconds") or 0.0), SYSTEM))
    return rows


def _state(step: Mapping[str, Any]) -> str:
    if step["verdict"] is None:
        return str(step["state"])
    if step["state"] in ("skipped", "cancelled"):
        return str(step["state"])
    return "ok" if step["verdict"] == "ok" else "failed"


def draw(rows: list[Bar], width: int, *, unicode: bool) -> list[tuple[str, str]]:
    """(state or kind, line) for each bar; `width` columns in all."""
    if not rows:
        return []
    total = max(row.begin_seconds + row.length_seconds for row in rows) or 1.0
    label = min(_LABEL_CHARACTERS, max(len(row.label) for row in rows))
    room = max(_SMALLEST_BAR, width - label - (_FURNITURE if unicode else _FURNITURE + _WORD - 1))
    return [(row.state or row.kind, _line(row, label, total, room, unicode=unicode)) for row in rows]


def _line(row: Bar, label: int, total_seconds: float, room: int, *, unicode: bool) -> str:
    head = f"{_mark(row, unicode=unicode)} {_cut(row.label, label)} {duration(row.length_seconds):>10}"
    return f"{head}  {_bar(row, total_seconds, room, unicode=unicode)}".rstrip()


def _mark(row: Bar, *, unicode: bool) -> str:
    text = mark(row.state, unicode=unicode) if row.state else " "
    return text if unicode else f"{text:<{_WORD}}"


def _cut(text: str, width: int) -> str:
    return f"{text:<{width}}" if len(text) <= width else text[: width - 1] + "…"


def _bar(row: Bar, total_seconds: float, room: int, *, unicode: bool) -> str:
    begin = min(int(row.begin_seconds / total_seconds * room), room - 1)
    most = (room - begin) * 8
    eighths = min(max(1, round(row.length_seconds / total_seconds * room * 8)), most)
    whole, rest = divmod(eighths, 8)
    if not unicode:
        return " " * begin + "#" * max(1, whole)
    return " " * begin + "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def split(times: Mapping[str, Any]) -> str:
    """One line: the platform's own time and the steps'."""
    total = f"total {duration(times['total_seconds'])}"
    if times.get("user_seconds") is None or times.get("system_seconds") is None:
        return total
    names = {
        "queue_seconds": "queue",
        "start_seconds": "start",
        "handover_seconds": "hand-over",
        "finish_seconds": "log flush",
        "verdict_seconds": "verdict",
    }
    parts = ", ".join(f"{name} {duration(times[key])}" for key, name in names.items() if times.get(key) is not None)
    system, user = duration(times["system_seconds"]), duration(times["user_seconds"])
    # Waiting until a background step is ready, and attempts that were lost.
    rest = times["total_seconds"] - times["system_seconds"] - times["user_seconds"]
    other = f" · other {duration(rest)}" if rest >= _WORTH_TELLING_SECONDS else ""
    return f"system time {system} ({parts}) · user time {user}{other} · {total}"
