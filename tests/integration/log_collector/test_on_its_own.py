"""A collector beside a hub: with the credential that `overspill identity hub` cuts, and none of the hub's keys."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from shared.adapters.s3_objects import S3Objects
from shared.parties import LOG_COLLECTOR
from shared.pulse import VARIABLE
from shared.settings import ObjectSettings
from tests.conftest import BusServer
from tests.integration.log_collector.steps import collecting, quick
from tests.integration.log_collector.test_log_crashes import Process
from tests.integration.runner.hub import ROOT


def cut(service: str, identity: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    words = ["identity", "hub", service, "--identity", str(identity), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", "overspill", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


async def test_a_collector_that_joins_takes_its_share_and_its_probe_passes(
    bus_server: BusServer, object_store: ObjectSettings, tmp_path: Path
) -> None:
    creds, pulse = tmp_path / "bus.creds", tmp_path / "pulse"
    told = cut("log-collector", bus_server.identity.directory, creds)
    assert told.returncode == 0, told.stderr
    assert creds.stat().st_mode & 0o777 == 0o600
    environment = {
        **os.environ,
        "OVERSPILL_NATS_URL": bus_server.url,
        "OVERSPILL_NATS_CREDS_FILE": str(creds),
        "OVERSPILL_S3_URL": object_store.url,
        "OVERSPILL_S3_BUCKET": object_store.bucket,
        "OVERSPILL_S3_CREDENTIALS_FILE": str(object_store.credentials_file),
        "OVERSPILL_LOG_COLLECTOR_INSTANCE": "beside",
        VARIABLE: str(pulse),
    }
    beating = [sys.executable, "-S", "-m", "shared.pulse"]
    before = subprocess.run(beating, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (before.returncode, before.stderr) == (1, "it has not begun\n")
    process = Process(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.log_collector"), env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
    )
    try:
        await process.until("log_collector_ready")
        after = subprocess.run(beating, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert after.returncode == 0, after.stderr
        hubs = bus_server.identity.credential(LOG_COLLECTOR)
        async with (
            bus_server.connect(hubs) as bus,
            S3Objects.connect(object_store) as objects,
            collecting(quick("hub"), bus, objects),
        ):
            await process.until("log_collectors", members=2)
    finally:
        await process.kill()


def test_what_is_no_service_of_the_hub_is_named_with_those_that_are(
    bus_server_started: BusServer, tmp_path: Path
) -> None:
    told = cut("collector", bus_server_started.identity.directory, tmp_path / "bus.creds")
    assert told.returncode == 2
    assert "'collector' is no service of the hub; take one of gateway, scheduler," in told.stderr
    assert not (tmp_path / "bus.creds").exists()
