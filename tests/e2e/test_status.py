"""`overspill status` against a platform that works, loses its machine, and starts again."""

import shutil
from pathlib import Path

from tests.e2e.platform import Platform

SPEC = "name: counted\nsteps: [{run: 'true'}]"


def test_what_it_counted_outlives_the_platform_and_its_projection(tmp_path: Path) -> None:
    often = {"OVERSPILL_GATEWAY_TELL_REFUSALS_SECONDS": "0.1", "OVERSPILL_CLUSTER_METRICS_COUNT_SECONDS": "1"}
    platform = Platform(tmp_path, tmp_path / "data", settings=often)
    platform.start()
    try:
        tree = platform.spec(SPEC)
        assert [platform.run("run", "--no-source", cwd=tree).code for _ in range(2)] == [0, 0]
        assert platform.run("run", "--no-source", cwd=platform.spec("steps: [{run: 'exit 1'}]")).code == 1
        before = platform.run("status", "--json")
        assert before.code == 0, before.out + before.err
        screen = platform.run("status")
        assert (screen.code, screen.out.splitlines()[0]) == (0, "✓ All is well")
    finally:
        platform.end()
    shutil.rmtree(platform.data / "hub" / "gateway")
    platform.start()
    try:
        after = platform.run("status", "--json").json()["figures"]["hour"]
    finally:
        platform.end()
    first = before.json()["figures"]["hour"]
    stability = after["stability"]
    assert (stability["accepted"], stability["succeeded"], stability["failed"]) == (3, 2, 1)
    assert (stability["started_in_time"], stability["our_errors"], stability["share"]) == (3, 0, 1.0)
    assert stability == first["stability"]
    assert after["speed"] == first["speed"]
    assert after["speed"]["jobs"] == 3
    (pool,) = after["cost"]
    assert pool["core_seconds"]["allocatable"] > 0
    assert pool["core_seconds"]["requested"] > 0
