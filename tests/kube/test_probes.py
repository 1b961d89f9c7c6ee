"""The controller's probes: whoever goes on passes, whatever it waits for, and whoever stands still does not."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.identity import Identity
from shared.pulse import STALE_SECONDS, VARIABLE
from tests.conftest import BusServer
from tests.integration.runner.hub import PATIENCE_SECONDS, ROOT
from tests.kube.edge import ControllerProcess
from tests.kube.helm import resources, template
from tests.kube.test_charts import EDGE

Controllers = Callable[..., ControllerProcess]


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    """Of the chart."""
    (made,) = [each for each in resources(template("overspill-edge", *EDGE)) if each["kind"] == "Deployment"]
    (one,) = made["spec"]["template"]["spec"]["containers"]
    return dict(one)


@dataclass
class AbsentBus:
    identity: Identity
    url: str = "nats://127.0.0.1:1"


@pytest.fixture
def unheard(fresh_bus_server: BusServer, tmp_path: Path) -> Iterator[ControllerProcess]:
    """A controller whose bus nobody serves."""
    bus = AbsentBus(fresh_bus_server.identity)
    one = ControllerProcess(
        bus, _no_cluster(tmp_path), "lease", tmp_path / "one", environment={VARIABLE: str(tmp_path / "pulse")}
    )
    yield one.start()
    one.signal(signal.SIGKILL)


def _no_cluster(folder: Path) -> Path:
    file = folder / "kubeconfig"
    file.write_text(
        """{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
"users": [{"name": "u", "user": {}}],
"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}"""
    )
    return file


def probe(container: dict[str, Any], kind: str, file: Path) -> "subprocess.CompletedProcess[str]":
    python, *words = container[kind]["exec"]["command"]
    assert python == "python3"
    environment = {**os.environ, VARIABLE: str(file), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)


async def until_touched(file: Path) -> None:
    """Twice from now on: the second was begun after."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(2):
            before = file.stat().st_mtime_ns if file.exists() else 0
            while not file.exists() or file.stat().st_mtime_ns == before:
                await asyncio.sleep(0.05)


async def test_who_leads_and_who_stands_by_pass_and_who_stands_still_does_not(
    controllers: Controllers, container: dict[str, Any], tmp_path: Path
) -> None:
    one = controllers("one", **{VARIABLE: str(tmp_path / "one.pulse")})
    two = controllers("two", **{VARIABLE: str(tmp_path / "two.pulse")})
    for each, file in ((one, tmp_path / "one.pulse"), (two, tmp_path / "two.pulse")):
        await until_touched(file)
        assert probe(container, "livenessProbe", file).returncode == 0
        assert each.process is not None
        each.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, each.process.pid, os.WSTOPPED | os.WNOWAIT)
        long_ago = file.stat().st_mtime - STALE_SECONDS - 1
        os.utime(file, (long_ago, long_ago))
        told = probe(container, "livenessProbe", file)
        assert told.returncode == 1
        assert "stand still" in told.stderr
        each.process.send_signal(signal.SIGCONT)
        await until_touched(file)
        assert probe(container, "livenessProbe", file).returncode == 0


@pytest.mark.usefixtures("unheard")
async def test_who_waits_for_the_bus_goes_on(container: dict[str, Any], tmp_path: Path) -> None:
    await until_touched(tmp_path / "pulse")
    assert probe(container, "livenessProbe", tmp_path / "pulse").returncode == 0


def test_who_has_not_begun_is_not_started(container: dict[str, Any], tmp_path: Path) -> None:
    told = probe(container, "startupProbe", tmp_path / "pulse")
    assert told.returncode == 1
    assert "has not begun" in told.stderr


def test_the_probed_file_is_where_the_container_may_write(container: dict[str, Any]) -> None:
    (file,) = [Path(each["value"]) for each in container["env"] if each["name"] == VARIABLE]
    assert str(file.parent) in [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
