"""compose.yaml, read by Docker's own compose, run by podman on images made without a registry."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.docker.builder import image
from tests.kube import assets
from tests.node import engine as engines
from tests.node.engine import Engine

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 300
NO_PORTS = "services: {hub: {ports: !reset []}}\n"
"""The machine's own 8080 may be somebody's."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    assets.ensure_packages(engines.PACKAGES)
    with engines.running() as engine:
        yield engine


def test_what_compose_brings_up_is_healthy_runs_a_job_and_goes_without_a_trace(engine: Engine, tmp_path: Path) -> None:
    engine.load(image("one-machine"))
    (tmp_path / "no-ports.yaml").write_text(NO_PORTS)
    files = ("-f", str(ROOT / "compose.yaml"), "-f", str(tmp_path / "no-ports.yaml"))
    program = assets.ensure(["docker-compose"]) / "docker-compose"

    def compose(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [program, *files, *words]
        return subprocess.run(
            command, env=engine.environment, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
        )

    up = compose("up", "--detach", "--no-build", "--wait")
    try:
        assert up.returncode == 0, f"{up.stderr}\n{compose('ps', '--all').stdout}\n{compose('logs').stdout}"
        ran = compose("exec", "-T", "hub", "python3", "-m", "overspill", "run", "--no-source", "/build.yaml")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "hello from user 65532" in ran.stdout
    finally:
        down = compose("down", "--volumes", "--timeout", "20")
    assert down.returncode == 0, down.stderr
    assert engine.run("ps", "--all", "--quiet") == ""
    assert engine.run("volume", "ls", "--quiet") == ""
