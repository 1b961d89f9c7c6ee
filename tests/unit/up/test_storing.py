"""How safe and how large the bus' store is: what the flags say and what nats-server is told."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from overspill.embedded import storing
from overspill.platform import BadUsage
from overspill.up import read_storing
from shared.adapters.identity import Identity
from shared.adapters.nats_config import MAX_FILE_STORE, read_sync, server_config
from shared.adapters.provision import stream_config
from shared.flow import DLQ, JOBS, LOG, SUBMIT
from shared.stream import STORE_BYTES


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("text", "seconds"), [("always", None), ("1s", 1.0), ("250ms", 0.25), ("2m", 120.0)])
def test_the_sync_setting_is_read(text: str, seconds: float | None) -> None:
    assert read_sync(text) == seconds


@pytest.mark.parametrize("text", ["never", "0s", "-1s", "3m", "", "1 second"])
def test_a_sync_setting_that_means_nothing_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(BadUsage, match="--sync"):
        read_storing(text, None)


@pytest.mark.parametrize(("seconds", "said"), [(None, "sync_interval: always"), (1.0, 'sync_interval: "1.0s"')])
def test_the_server_is_told_how_soon_to_sync(tmp_path: Path, seconds: float | None, said: str) -> None:
    text = server_config(Identity.create(tmp_path), tmp_path, sync_interval_seconds=seconds)
    assert said in text
    assert f"max_file_store: {MAX_FILE_STORE}" in text


def test_the_default_is_a_second(tmp_path: Path) -> None:
    assert 'sync_interval: "1s"' in server_config(Identity.create(tmp_path), tmp_path)


@pytest.mark.parametrize(("text", "size"), [("2Gi", 2 * 2**30), ("500M", 500_000_000), (None, None)])
def test_the_size_of_the_store_is_read(text: str | None, size: int | None) -> None:
    assert read_storing("1s", text)["store_bytes"] == size


@pytest.mark.parametrize("text", ["much", "1Mi"])
def test_a_store_that_is_no_size_or_too_small_is_refused(text: str) -> None:
    with pytest.raises(BadUsage, match="--bus-store"):
        read_storing("1s", text)


def test_shares_are_of_the_store() -> None:
    sizes = {stream: stream_config(stream, 1, 1000)["max_bytes"] for stream in (LOG, SUBMIT, DLQ, JOBS)}
    assert sizes == {LOG: 400, SUBMIT: 100, DLQ: 20, JOBS: -1}


@pytest.mark.parametrize(("free", "size"), [(10**12, STORE_BYTES), (2 * 2**30, 2**30 + 500)])
def test_the_store_takes_at_most_half_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, size: int
) -> None:
    (tmp_path / "own").write_bytes(b"x" * 1000)

    def usage(_: Any) -> Usage:
        return Usage(free, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert storing.default_bytes(tmp_path) == size


def test_a_disk_that_is_full_at_the_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_: Any) -> Usage:
        return Usage(10**9, 10**9, 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(storing.DiskFull, match="has 1 MiB left, too few to begin with: free 64 MiB or more"):
        storing.default_bytes(tmp_path)
