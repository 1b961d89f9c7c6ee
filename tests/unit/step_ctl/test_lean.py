"""Step-ctl stays small: what it must not import."""

import subprocess
import sys

HEAVY = ("aiohttp", "aioboto3", "boto3", "opentelemetry", "fastapi", "httpx", "runner.agent", "overspill")


def test_step_ctl_imports_nothing_heavy() -> None:
    script = (
        "import runner.step_ctl.__main__, sys\n"
        f"print([name for name in {HEAVY!r} if sys.modules.get(name) is not None])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_spare_whose_keeper_is_gone_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner.step_ctl", "--spare"], stdin=subprocess.DEVNULL, check=False, timeout=60
    )
    assert done.returncode == 0
