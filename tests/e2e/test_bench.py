import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import table
from bench.__main__ import SMOKE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("figure", SMOKE)
def test_a_figure_is_measured_and_becomes_a_row(figure: str, tmp_path: Path) -> None:
    environment = os.environ | {"OVERSPILL_BENCH_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "bench", "--smoke", figure]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = table.newest(figure, tmp_path)
    assert run is not None
    text = table.table([run])
    assert all(f"| {row['figure']} |" in text for row in run["rows"])
