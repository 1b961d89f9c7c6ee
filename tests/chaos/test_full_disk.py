"""`overspill up` on a disk that others fill to the last byte. Needs to mount a tmpfs: root, or a user namespace."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.platform import Platform
from tests.e2e.test_up import processes_of, wait_until_nothing_runs

DISK_BYTES = 700 * 2**20
PATIENCE_SECONDS = 90
SMALL = {"machineType": {"cpu": "100m", "memory": "64Mi", "disk": "1Mi"}}


@contextlib.contextmanager
def tmpfs(path: Path, size_bytes: int) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(path)]
    done = subprocess.run(mount, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stderr!r} (this needs root)"
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    with tmpfs(path, DISK_BYTES):
        yield path


@pytest.fixture
def platform(tmp_path: Path, disk: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path, disk / "data", ("--bus-store", "200Mi"))
    platform.start()
    yield platform
    if platform.process is not None and platform.process.poll() is None:
        platform.process.kill()
        platform.process.communicate()
    wait_until_nothing_runs(platform.data)
    shutil.copytree(platform.data / "logs", platform.home / "logs")  # the disk goes, what was said on it stays


class Api:
    def __init__(self, platform: Platform) -> None:
        token = (platform.data / "token").read_text().strip()
        self._http = httpx.Client(
            base_url=platform.ready["url"], headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def submit(self, run: str, **more: Any) -> httpx.Response:
        return self._http.post("/v1/jobs", json={**SMALL, "steps": [{"run": run}], **more})

    def get(self, path: str) -> Any:
        return self._http.get(path).json()

    def log(self, job: str) -> str:
        return self._http.get(f"/v1/jobs/{job}/logs", params={"step": 1}).text

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def api(platform: Platform) -> Iterator[Api]:
    api = Api(platform)
    yield api
    api.close()


def until(ask: Callable[[], Any], holds: Callable[[Any], bool], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    deadline, told = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, json.JSONDecodeError):
            told = ask()
            if holds(told):
                return told
        time.sleep(0.1)
    raise AssertionError(f"{what}: {told}")


def fill(disk: Path, leave: int = 0) -> Path:
    """A file of somebody else's, until that much is left."""
    path = disk / "others"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while leave == 0 or os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > leave:
            file.write(b"x" * 2**16)
    return path


def ended(state: str) -> Callable[[Any], bool]:
    return lambda view: view.get("state") == state


def runs(view: Any) -> bool:
    return bool(view.get("phase") == "running")


def test_doors_close_before_the_disk_is_full_and_open_again_by_themselves(
    platform: Platform, api: Api, disk: Path
) -> None:
    go = platform.home / "go"
    running = api.submit(f"while [ ! -e {go} ]; do sleep 0.05; done; echo ended well").json()["id"]
    until(lambda: api.get(f"/v1/jobs/{running}"), runs, "it runs")
    others = fill(disk, leave=200 * 2**20)
    refused = until(lambda: api.submit("true"), lambda answer: answer.status_code == 503, "the door closes")
    assert refused.json()["code"] == "no_room"
    assert "the disk of the bus has" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    assert api.get("/readyz")["warnings"]
    go.touch()
    until(lambda: api.get(f"/v1/jobs/{running}"), ended("succeeded"), "what runs ends")
    assert api.log(running) == "ended well\n"
    others.unlink()
    taken = until(lambda: api.submit("echo again"), lambda answer: answer.status_code == 201, "the door opens")
    job = taken.json()["id"]
    until(lambda: api.get(f"/v1/jobs/{job}"), ended("succeeded"), "a new job runs")


def test_a_disk_filled_to_the_last_byte_ends_no_service_and_all_goes_on_once_there_is_room(
    platform: Platform, api: Api, disk: Path
) -> None:
    before = {Path(line.split()[0]).name for line in processes_of(platform.data)}
    go = platform.home / "go"
    running = api.submit(f"while [ ! -e {go} ]; do sleep 0.05; done; echo ended well").json()["id"]
    until(lambda: api.get(f"/v1/jobs/{running}"), runs, "it runs")
    others = fill(disk)
    refused = until(lambda: api.submit("true"), lambda answer: answer.status_code == 503, "the door closes")
    assert refused.headers["content-type"] == "application/problem+json"
    time.sleep(20)  # long enough for beats, leases, checkpoints and logs of every part to meet the full disk
    assert platform.process is not None
    assert platform.process.poll() is None, (platform.home / "up.err").read_text()
    go.touch()
    time.sleep(5)
    others.unlink()
    until(lambda: api.get(f"/v1/jobs/{running}"), lambda view: view.get("ended") is not None, "it ends")
    view = api.get(f"/v1/jobs/{running}")
    assert (view["state"], view["exit_code"]) == ("succeeded", 0), view
    assert api.log(running) == "ended well\n"
    taken = until(lambda: api.submit("echo again"), lambda answer: answer.status_code == 201, "the door opens")
    job = taken.json()["id"]
    until(lambda: api.get(f"/v1/jobs/{job}"), ended("succeeded"), "a new job runs")
    assert before <= {Path(line.split()[0]).name for line in processes_of(platform.data)}
    assert platform.process.poll() is None
