"""A bus of three servers, configured as the chart does it."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from overspill.embedded import nats_server
from overspill.embedded.binaries import nats_server as binary
from overspill.embedded.ports import choose
from overspill.hub_seed import TENANT, prepare
from shared.adapters.identity import Identity
from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_config import Routes, server_config
from shared.adapters.nats_permissions import PROVISIONER, SEEDER
from shared.errors import Unavailable
from shared.flow import STREAMS, TENANTS
from tests.conftest import guarded, wait_for

TOKEN = f"osp_0123456789ab_{'x' * 43}"


async def until_found(bus: NatsBus) -> None:
    """While the two agree on a new leader nobody answers, and a follower's copy may be behind."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                if await bus.bucket(TENANTS).get(TENANT) is not None:
                    return
            await asyncio.sleep(0.1)  # nothing tells when a leader is chosen


@pytest.mark.slow
async def test_three_servers_keep_each_stream_three_times_and_lose_no_record_with_one_of_them(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "identity")
    names = ("a", "b", "c")
    ports = choose(names, {})
    addresses = [f"127.0.0.1:{ports[name]}" for name in names]
    with contextlib.ExitStack() as stack:
        started = []
        for name in names:
            store = tmp_path / name
            store.mkdir()
            text = server_config(
                identity, store, server_name=name, routes=Routes(addresses, "of-the-routes", ports[name])
            )
            (store / "nats.conf").write_text(text)
            log = store / "server.log"
            process = stack.enter_context(guarded([str(binary()), "--config", str(store / "nats.conf")], log))
            started.append((store, process, log))
        urls = [wait_for(lambda s=store: nats_server.told_url(s), process, log) for store, process, log in started]  # type: ignore[misc]  # a default argument has no type in a lambda
        url = ",".join(urls)
        await prepare(url, identity, TOKEN, replicas=3)
        async with NatsBus.connect(url, identity.credential(PROVISIONER)) as bus:
            for stream in STREAMS:
                told = await api(bus, f"STREAM.INFO.{stream.name}")
                assert told["config"]["num_replicas"] == 3
                assert len(told["cluster"]["replicas"]) == 2
        started[0][1].kill()
        started[0][1].wait()
        async with NatsBus.connect(",".join(urls[1:]), identity.credential(SEEDER)) as bus:
            await until_found(bus)
