"""`overspill status` as people see it."""

import io
from typing import Any

from rich.console import Console

from overspill.view.status import status_lines

FIGURES: dict[str, Any] = {
    "stability": {
        "accepted": 1200,
        "started_in_time": 1190,
        "started_late": 10,
        "succeeded": 1100,
        "failed": 97,
        "cancelled": 2,
        "timed_out": 0,
        "our_errors": 1,
        "retried_attempts": 4,
        "start_target_seconds": 60.0,
        "share": 0.99099,
    },
    "speed": {
        "jobs": 1200,
        "p50_seconds": 0.05,
        "p99_seconds": 12.0,
        "mean_seconds_by_part": {"queue": 0.01, "start": 0.04},
    },
    "cost": [
        {
            "cluster": "c",
            "pool": "p",
            "core_seconds": {"allocatable": 7200.0, "requested": 1800.0, "idle": 5400.0},
            "memory_byte_seconds": {"allocatable": 2.0**40, "requested": 2.0**39, "idle": 2.0**39},
        }
    ],
    "refusals": {"credential": 3, "rate": 1},
}
WELL: dict[str, Any] = {
    "healthy": True,
    "wrong": [],
    "scope": "platform",
    "tenant": "default",
    "services": [{"service": "scheduler", "answers": True, "complaints": []}],
    "machines": {"ready": 2, "draining": 0, "lost": []},
    "queue": {"waiting": 0, "oldest_wait_seconds": None, "running": 1},
    "dead_letters": {"count": 0, "newest": {}},
    "figures": {"hour": FIGURES, "day": FIGURES, "week": FIGURES},
}


def shown(told: dict[str, Any], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for line in status_lines(told, 0.0, unicode=True):
        console.print(line, soft_wrap=True)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_four_figures_stand_in_a_column_each_for_hour_day_and_week() -> None:
    text = shown(WELL)
    assert text.startswith("✓ All is well")
    for words in ("LAST HOUR", "LAST DAY", "LAST 7 DAYS", "1,190 of 1,200", "50 ms", "12.0 s"):
        assert words in text
    for line in text.splitlines():
        if line.startswith("  c/p, cores"):
            assert line.split()[2:] == ["0.5", "of", "2.0", "core", "h"] * 3
    assert "75.0 %" in text


def test_a_share_is_rounded_down_so_that_all_is_said_of_all_only() -> None:
    assert "99.09 %" in shown(WELL)
    almost = {**FIGURES, "stability": {**FIGURES["stability"], "share": 0.99999}}
    assert "100 %" not in shown({**WELL, "figures": {"hour": almost, "day": almost, "week": almost}})


def test_it_is_one_screen() -> None:
    lines = shown(WELL).splitlines()
    assert len(lines) <= 30
    assert max(len(line.rstrip()) for line in lines) <= 100


def test_what_is_wrong_stands_on_top_with_its_remedy() -> None:
    told = {
        **WELL,
        "healthy": False,
        "wrong": ["cache does not answer: look at its log, or start it again"],
        "services": [{"service": "cache", "answers": False, "complaints": []}],
        "machines": None,
    }
    text = shown(told)
    assert text.splitlines()[:2] == [
        "✗ 1 thing is wrong",
        "  • cache does not answer: look at its log, or start it again",
    ]
    assert "cache (silent)" in text
    assert "unknown" in text


def test_a_tenant_is_told_that_it_sees_its_own_and_its_cost_without_what_others_leave_idle() -> None:
    amount = {"allocatable": None, "requested": 60.0, "idle": None}
    own = {**FIGURES, "cost": [{"cluster": "c", "pool": "p", "core_seconds": amount, "memory_byte_seconds": amount}]}
    text = shown({**WELL, "scope": "tenant", "dead_letters": None, "figures": {"hour": own, "day": own, "week": own}})
    assert "60.0 core s" in text
    assert " of 0" not in text
    assert "dead letters" not in text
    assert "an operator's key shows the whole platform" in text
