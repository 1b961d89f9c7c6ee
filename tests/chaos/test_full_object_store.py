"""An object store whose disk is full, under the whole platform. Needs to mount a tmpfs: root."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.test_full_disk import Api, ended, tmpfs, until
from tests.e2e.platform import Platform
from tests.e2e.test_up import wait_until_nothing_runs

STORE_BYTES = 160 * 2**20


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Its object store has a disk of its own."""
    data = tmp_path / "data"
    (data / "objects").mkdir(parents=True)
    with tmpfs(data / "objects", STORE_BYTES):
        platform = Platform(tmp_path, data)
        platform.start()
        yield platform
        assert platform.end() == 0, (tmp_path / "up.err").read_text()
        wait_until_nothing_runs(platform.data)


@pytest.fixture
def api(platform: Platform) -> Iterator[Api]:
    api = Api(platform)
    yield api
    api.close()


def fill(platform: Platform) -> Path:
    others = platform.data / "objects/others"
    with others.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(os.urandom(2**16))
    return others


def test_trees_are_refused_with_the_reason_and_jobs_that_need_none_run(platform: Platform, api: Api) -> None:
    others = fill(platform)
    tree = platform.spec("machineType: {cpu: 100m, memory: 64Mi, disk: 1Mi}\nsteps:\n  - run: cat data | wc -c\n")
    (tree / "data").write_bytes(os.urandom(3 * 2**20))
    refused = platform.run("run", cwd=tree)
    assert refused.code != 0
    assert "object store" in refused.err, refused.err
    job = api.submit("seq 1 200000").json()["id"]
    view = until(lambda: api.get(f"/v1/jobs/{job}"), ended("succeeded"), "a job without a tree ends")
    assert view["exit_code"] == 0
    attempt = platform.data / "agent/attempts" / f"{job}-1"
    assert attempt.is_dir(), "its log is not durable yet: the files stay"
    assert api.log(job).endswith("\n200000\n")
    others.unlink()
    until(attempt.exists, lambda there: not there, "its log becomes durable, the files go", 240)
    assert api.log(job).endswith("\n200000\n")
    taken = platform.run("run", cwd=tree)
    assert taken.code == 0, taken.err
