"""The promises of `shared.bus.Bus`, kept over a server that dies and comes back, and by its double in memory."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from shared import flow
from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision
from shared.errors import Unavailable
from tests.contract.bus_contract import JOB, BusContract, take
from tests.contract.conftest import Server
from tests.memory_bus import MemoryBus, MemoryServer


class TestNatsBus(BusContract):
    """The real one."""


class TestMemoryBus(BusContract):
    @pytest.fixture
    async def bus(self) -> MemoryBus:
        return MemoryBus(MemoryServer())


async def test_a_tail_leaves_nothing_out_and_repeats_nothing_over_a_killed_server(bus: NatsBus, server: Server) -> None:
    evt = flow.Evt("acme", "one", 1, "step-started")
    sent = 0

    async def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            await until_stored(bus, evt, str(sent).encode())
            sent += 1

    reader = asyncio.create_task(take(bus.tail(flow.EVT, evt.filter(), from_seq=1), 60))
    await send(20)
    server.kill()
    server.start()
    await send(20)
    server.stop()
    server.start()
    await send(20)
    assert [int(message.data) for message in await reader] == list(range(60))


async def until_stored(bus: NatsBus, subject: flow.Evt, data: bytes) -> None:
    """Publish under one message id until the server says it has it."""
    async with asyncio.timeout(20):
        while True:
            back = asyncio.Event()
            bus.on_reconnect(back.set)
            try:
                await bus.publish(subject, data, message_id=data.decode(), timeout_seconds=1)
            except Unavailable:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(back.wait(), 0.5)
            else:
                return
            finally:
                bus.forget_wake(back.set)


async def test_what_was_purged_stays_purged_over_a_killed_server(bus: NatsBus, server: Server) -> None:
    orders = [flow.OrderTo("c1", "m1", "acme", f"job{number}") for number in range(10)]
    for version in (b"run", b"cancel"):
        for order in orders:
            await bus.publish(order, version)
    for order in orders[::2]:
        await bus.purge(flow.ORDERS, str(order))
    back = asyncio.Event()
    bus.on_reconnect(back.set)
    server.kill()
    server.start()
    async with asyncio.timeout(20):
        await back.wait()
    standing = [(message.subject, message.data) for message in await bus.last_each(flow.ORDERS, flow.OrderTo.filter())]
    assert standing == [(str(order), b"cancel") for order in orders[1::2]]


async def test_work_goes_on_after_the_server_was_killed(bus: NatsBus, server: Server) -> None:
    await bus.publish(flow.Submit("acme"), b"before")
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def worker() -> None:
        async for delivery in bus.work(flow.SUBMIT, "gateway"):
            await delivery.ack()
            got.put_nowait(delivery.message.data)

    task = asyncio.create_task(worker())
    async with asyncio.timeout(30):
        assert await got.get() == b"before"
        back = asyncio.Event()
        bus.on_reconnect(back.set)
        server.kill()
        server.start()
        await back.wait()
        while True:
            with contextlib.suppress(Unavailable):
                await bus.publish(flow.Submit("acme"), b"after", message_id="after")
                break
        while await got.get() != b"after":
            pass
    task.cancel()


async def test_nothing_is_written_while_the_server_is_away(bus: NatsBus, server: Server) -> None:
    server.kill()
    with pytest.raises(Unavailable):
        await bus.publish(JOB, b"x", timeout_seconds=0.5)
    server.start()


async def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(Unavailable, match=r"the bus at nats://127\.0\.0\.1:1 can't be reached"):
        async with NatsBus.connect("nats://127.0.0.1:1", timeout_seconds=1):
            pass


async def test_provisioning_twice_changes_nothing(bus: NatsBus) -> None:
    await bus.publish(JOB, b"x", expect_seq=0)
    await provision(bus)
    assert await bus.end_seq(flow.JOBS) == 1
    assert await bus.purge(flow.JOBS, str(JOB)) == 1
    assert await bus.last(flow.JOBS, JOB) is None


async def test_a_stream_that_asks_for_more_room_than_there_is_gets_less(tmp_path: Path) -> None:
    server = Server(tmp_path, max_file_bytes=500 * 2**20)
    server.start()
    try:
        async with NatsBus.connect(server.url) as bus:
            await provision(bus)
            await bus.publish(flow.LogTo("t", "j", 1, 1), b"x")
            told = await api(bus, "STREAM.INFO.LOG")
            assert 64 * 2**20 <= told["config"]["max_bytes"] < 500 * 2**20
            await provision(bus)
    finally:
        server.stop()


@pytest.mark.parametrize("status", ["100", "408", "409", "503"])
async def test_a_stored_message_that_poses_as_the_servers_word_is_a_message(bus: NatsBus, status: str) -> None:
    posing = {"Status": status, "Description": "Consumer Deleted", "Nats-Last-Consumer": "99"}
    await bus.publish(flow.Evt("acme", "one", 1, "step-started"), b"posing", headers=posing)
    await bus.publish(flow.Submit("acme"), b"posing", headers=posing)
    assert [message.data for message in await take(bus.tail(flow.EVT, from_seq=1), 1)] == [b"posing"]
    async with asyncio.timeout(20):
        async for delivery in bus.work(flow.SUBMIT, "gateway"):
            await delivery.ack()
            assert delivery.message.data == b"posing"
            break


async def test_the_last_message_is_the_same_whichever_way_it_is_read(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish(JOB, b"1", headers={"ce-id": "a"})
    await bus.publish(JOB, b"2", headers={"ce-id": "b"})
    from_the_only_copy = await bus.last(flow.JOBS, JOB)

    async def more_copies(_: str) -> bool:
        return False

    monkeypatch.setattr(bus, "has_one_copy", more_copies)
    assert await bus.last(flow.JOBS, JOB) == from_the_only_copy
