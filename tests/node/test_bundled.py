"""Hub with its bundled bus and object store, an edge that joined by the command line, and jobs through all of it."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.ids import random_id
from tests.integration.runner.hub import ROOT
from tests.node import network, probes
from tests.node.node import Node
from tests.node.platform import EDGE, HUB, Platform

DEMO = ROOT / "examples/kubernetes/build.yaml"
COUNTING = """
name: counting
steps:
  - name: count
    run: |
      (nc {gate} </dev/null && touch go) &
      line=0
      while [ ! -f go ]; do line=$((line + 1)); echo "line $line"; sleep 0.05; done
      echo "lines: $line"
  - name: afterwards
    run: test -f go && echo "the next step"
"""
# What a new version changes of every pod, without one.
HUB_AFTER = {
    "podLabels.round": "two",
    "nats.bundled.resources.requests.memory": "200Mi",
    "nats.bundled.resources.requests.cpu": "150m",
    "s3.bundled.resources.requests.memory": "200Mi",
    "collectors.replicas": "1",
    "collectors.resources.requests.cpu": "50m",
}
EDGE_AFTER = {"podLabels.round": "two"}
PATIENCE_SECONDS = 120


@dataclass
class Gate:
    """A step that connects to its address waits there until it is opened."""

    address: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def gate() -> Iterator[Gate]:
    made = Gate()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            made.reached.set()
            made.opened.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        made.address = f"{network.HOST} {server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.opened.set()
            server.shutdown()
            thread.join()


def pods(platform: Platform) -> set[str]:
    """Who they are, but for those that are going: another after a restart."""
    found = platform.node.plane.call("GET", f"/api/v1/namespaces/{platform.namespace}/pods")["items"]
    return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}


@pytest.fixture
def platform(node: Node, tmp_path: Path) -> Iterator[tuple[Platform, dict[str, str]]]:
    """And what its edge was installed with."""
    made = Platform(node, f"t-{random_id()[:12]}", tmp_path)
    made.prepare()
    try:
        made.install_hub()
        joining = made.join()
        made.install_edge(joining)
        yield made, joining
    finally:
        made.take_away()


def test_a_job_goes_through_a_hub_with_its_own_bus_and_store_to_a_cluster_that_joined(
    platform: tuple[Platform, dict[str, str]],
) -> None:
    made, _ = platform
    told = made.overspill("run", str(DEMO), "--no-source")
    assert told.returncode == 0, f"{told.stdout}{told.stderr}\n{made.logs()}"
    assert "hello from a pod" in told.stdout
    assert "greet" in made.overspill("artifacts").stdout
    probed = probes.until_all_passed(made.node, made.namespace)
    assert {("hub", "Liveness"), ("hub", "Readiness"), ("controller", "Liveness")} <= probed


def test_a_job_that_runs_while_hub_and_edge_are_upgraded_ends_in_its_one_attempt_with_its_log_whole(
    platform: tuple[Platform, dict[str, str]], tmp_path: Path
) -> None:
    made, joining = platform
    spec = tmp_path / "build.yaml"
    with gate() as waiting:
        spec.write_text(COUNTING.format(gate=waiting.address))
        begun = made.overspill("run", str(spec), "--no-source", "--detach")
        assert begun.returncode == 0, begun.stderr
        assert waiting.reached.wait(PATIENCE_SECONDS), made.logs()
        before = pods(made)
        made.helm("upgrade", "hub", "overspill", HUB | HUB_AFTER)
        made.helm("upgrade", "edge", "overspill-edge", EDGE | joining | EDGE_AFTER)
        assert not before & pods(made), "every pod of the platform was to be another"
    made.overspill("logs", "last", "--follow")
    shown = json.loads(made.overspill("show", "last", "--json").stdout)
    assert (shown["state"], len(shown["attempts"])) == ("succeeded", 1), f"{shown}\n{made.logs()}"
    *lines, total = made.overspill("logs", "last", "--step", "1").stdout.splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    assert total == f"lines: {len(lines)}"
    assert made.overspill("logs", "last", "--step", "2").stdout == "the next step\n"
