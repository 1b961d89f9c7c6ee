"""Instants at which chaos tests kill: each declared once, placed once, and without effect unless armed."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.entrypoint import build
from shared import crash_points
from shared.crash_points import NAMES, POINTS, CrashPoint, NoSuchCrashPoint, armed_by

ROOT = Path(crash_points.__file__).parents[1]
PLACED = re.compile(r'\bcrash_point\(\s*"([^"]+)"')
HOMES = {
    "step-ctl": "runner/step_ctl",
    "agent": "runner/agent",
    "controller": "runner/controller",
    "entrypoint": "runner/entrypoint",
}


def placed() -> list[tuple[str, Path]]:
    sources = [
        path for room in ("services", "runner", "overspill", "shared") for path in (ROOT / room).rglob("*.[pc]*")
    ]
    return [
        (name, path.relative_to(ROOT))
        for path in sources
        if path.suffix in (".py", ".c")
        for name in PLACED.findall(path.read_text())
    ]


def passing(names: list[str], **environment: str) -> int:
    code = "import sys\nfrom shared.crash_points import crash_point\nfor name in sys.argv[1:]: crash_point(name)"
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, env=environment, check=False)
    return done.returncode


def test_every_point_has_a_name_of_its_own_and_says_what_is_done_and_what_is_not() -> None:
    assert len(NAMES) == len(POINTS)
    assert all(point.done and point.not_yet for point in POINTS)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_every_declared_point_is_placed_exactly_once_in_its_process(point: CrashPoint) -> None:
    found = [path for name, path in placed() if name == point.name]
    assert len(found) == 1
    home = HOMES.get(point.process, f"services/{point.process.replace('-', '_')}")
    assert found[0].is_relative_to(home)


def test_no_point_is_placed_that_is_not_declared() -> None:
    assert {name for name, _ in placed()} <= NAMES


@pytest.mark.parametrize("told", ["nowhere.at-all:1", "agent.before-delete", "agent.before-delete:0", "agent.x:1,"])
def test_arming_what_is_not_declared_is_refused(told: str) -> None:
    with pytest.raises(NoSuchCrashPoint):
        armed_by({crash_points.CRASH_AT: told})


def test_passing_what_is_not_declared_is_refused_once_anything_is_armed() -> None:
    armed = armed_by({crash_points.CRASH_AT: "agent.before-delete:1"})
    assert armed is not None
    with pytest.raises(NoSuchCrashPoint):
        armed.passes("agent.no-such-point")


def test_an_armed_point_kills_at_its_nth_passage_and_only_the_first_process_of_a_ledger(tmp_path: Path) -> None:
    name, other = "agent.before-delete", "step-ctl.mid-log"
    armed = {"OVERSPILL_CRASH_AT": f"{name}:2,{other}:1", "OVERSPILL_CRASH_LEDGER": str(tmp_path)}
    assert passing([name] * 5 + [other]) == 0
    assert passing([name], **armed) == 0
    assert passing([name, name], **armed) == -signal.SIGKILL
    assert [fired.name for fired in tmp_path.iterdir()] == [name]
    assert passing([name] * 5, **armed) == 0
    assert passing([other], **armed) == -signal.SIGKILL


def test_the_entrypoint_that_is_shipped_has_no_crash_points() -> None:
    assert b"OVERSPILL_CRASH" not in build.binary().read_bytes()
    assert b"OVERSPILL_CRASH" in build.chaos_binary().read_bytes()
