"""The stream of logs is full (the object store takes nothing): builds end, verdicts get through, no byte is lost."""

import contextlib
from collections.abc import Callable

from shared.adapters.nats_api import api
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import stream_config
from shared.errors import StreamFull
from shared.flow import LOG, LogTo
from tests.conftest import BusServer
from tests.integration.runner.hub import TENANT, AgentProcess, Hub
from tests.integration.runner.waiting import until_gone

Agents = Callable[..., AgentProcess]
SMALL_STORE_BYTES = 4 * 2**20


async def fill(hub: Hub) -> None:
    """By the log of another job."""
    with contextlib.suppress(StreamFull):
        while True:
            await hub.bus.publish(LogTo(TENANT, "noisy", 1, 1), b"x" * 60_000, headers={"Overspill-Offset": "0"})


async def test_a_verdict_gets_through_and_the_log_follows_when_there_is_room(
    hub: Hub, server: BusServer, agents: Agents
) -> None:
    async with server.connect(server.identity.credential(PROVISIONER)) as operator:
        await api(operator, "STREAM.UPDATE.LOG", stream_config(LOG, 1, SMALL_STORE_BYTES))
    agent = agents()
    hub.durable_open = False
    await fill(hub)
    order = await hub.order({"steps": [{"run": "seq 1 100000"}, {"run": "echo second"}]}, agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0), agent.complaints()
    attempt = agent.attempt(order)
    assert (attempt / "steps/001/log").read_bytes().endswith(b"\n100000\n")
    assert not (await hub.log(order.job, 1)).complete
    assert not (attempt / "told").exists()
    await hub.bus.purge(LOG, "logs.*.*.noisy.>")
    hub.durable_open = True
    await until_gone(attempt)
    first = await hub.log(order.job, 1)
    assert first.complete
    assert first.data == b"".join(b"%d\n" % number for number in range(1, 100_001))
    assert (await hub.log(order.job, 2)).data == b"second\n"
    assert (await hub.kinds(order.job)).count("attempt-ended") == 1
