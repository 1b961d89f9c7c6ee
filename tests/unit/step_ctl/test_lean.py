"""Step-ctl stays small: what it must not import."""

import ast
import subprocess
import sys

HEAVY = (
    "aiohttp",
    "rich",
    "pygments",
    "pydantic_settings",
    "http.client",
    "tarfile",
    "shared.exporting",
    "aioboto3",
    "boto3",
    "opentelemetry",
    "fastapi",
    "httpx",
    "runner.agent",
    "overspill",
)


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


def test_what_stands_in_for_jetstream_says_what_the_client_reads_of_it() -> None:
    script = """
from runner.step_ctl import lean
lean.leave_out()
import inspect, re, nats
from nats.aio import client
read = set(re.findall(r"nats\\.js\\.api\\.Header\\.(\\w+)", inspect.getsource(client)))
print(sorted((name, nats.js.api.Header[name].value) for name in read))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    from nats.js.api import Header

    told = ast.literal_eval(done.stdout)
    assert told == sorted((name, Header[name].value) for name, _ in told)
    assert {"STATUS", "DESCRIPTION"} <= {name for name, _ in told}
