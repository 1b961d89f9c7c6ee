"""From `overspill clusters join` to a cluster that is ready: helm takes what it prints, a controller what it writes."""

import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.adapters.identity import Identity
from tests.conftest import BusServer
from tests.e2e.platform import Platform
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess
from tests.kube.helm import template
from tests.kube.test_charts import GOLDEN

PATIENCE_SECONDS = 60.0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path, tmp_path / "data")
    platform.start()
    yield platform
    platform.end(signal.SIGTERM)


def test_helm_makes_of_what_join_prints_what_the_golden_file_says(platform: Platform) -> None:
    printed = platform.run("clusters", "join", "c1", "--bus", "nats://bus.test:4222").out
    words = shlex.split(printed.splitlines()[-1])
    assert words[:6] == ["helm", "install", "edge", "deploy/helm/overspill-edge", "-n", "overspill"]
    assert template("overspill-edge", *words[6:]) == (GOLDEN / "overspill-edge.yaml").read_text()


def test_a_controller_with_what_join_wrote_makes_its_cluster_ready(
    platform: Platform, api_server: ControlPlane, tmp_path: Path
) -> None:
    bus = platform.ready["nats_url"]
    assert platform.run("clusters", "join", "far", "--bus", bus).code == 0
    credential = (platform.home / "far.creds").read_text()
    server = BusServer(platform.data, Identity.load(platform.data / "identity"), bus)
    controller = ControllerProcess(
        server, api_server.kubeconfig, "default", tmp_path / "controller", cluster="far", credential=credential
    ).start()
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (view := platform.run("clusters", "show", "far", "--json").json())["state"] != "ready":
            assert time.monotonic() < deadline, (view, controller.complaints()[-3000:])
    finally:
        controller.signal(signal.SIGKILL)
    assert platform.run("clusters", "show", "far").out.startswith("far: ready, heard ")
