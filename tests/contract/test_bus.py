"""The promises of `shared.bus.Bus`, kept by the real thing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import flow
from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision
from shared.bus import Message
from shared.errors import NotFound, OverspillError, Rejected, Unavailable, WrongSequence
from tests.contract.conftest import Server

JOB = flow.Job("acme", "one")
OTHER = flow.Job("acme", "two")


async def take(messages: AsyncIterator[Message], count: int) -> list[Message]:
    taken: list[Message] = []
    async with asyncio.timeout(20), contextlib.aclosing(messages):  # type: ignore[type-var]
        async for message in messages:
            taken.append(message)
            if len(taken) == count:
                return taken
    return taken


async def test_only_one_of_many_creators_wins(bus: NatsBus) -> None:
    async def create(number: int) -> bool:
        try:
            await bus.publish(JOB, str(number).encode(), expect_seq=0)
        except WrongSequence:
            return False
        return True

    assert sum(await asyncio.gather(*(create(number) for number in range(8)))) == 1


async def test_a_write_on_an_old_sequence_changes_nothing(bus: NatsBus) -> None:
    first = await bus.publish(JOB, b"1", expect_seq=0)
    await bus.publish(JOB, b"2", expect_seq=first.seq)
    with pytest.raises(WrongSequence):
        await bus.publish(JOB, b"3", expect_seq=first.seq)
    newest = await bus.last(flow.JOBS, JOB)
    assert newest is not None
    assert newest.data == b"2"


async def test_the_same_message_id_is_stored_once(bus: NatsBus) -> None:
    evt = flow.Evt("acme", "one", 1, "step-started")
    first = await bus.publish(evt, b"x", message_id="m")
    again = await bus.publish(evt, b"x", message_id="m")
    assert (again.duplicate, again.seq) == (True, first.seq)


async def test_last_each_tells_every_subject_once_in_stream_order(bus: NatsBus) -> None:
    for number in range(3):
        await bus.publish(JOB, b"one%d" % number)
        await bus.publish(OTHER, b"two%d" % number)
    await bus.publish(flow.Spec("acme", "one"), b"spec")
    assert [message.data for message in await bus.last_each(flow.JOBS, flow.Job.filter())] == [b"one2", b"two2"]
    assert await bus.last_each(flow.JOBS, flow.Job.filter(tenant="nobody")) == []


async def test_last_of_a_subject_that_never_was_is_none(bus: NatsBus) -> None:
    assert await bus.last(flow.JOBS, JOB) is None


async def test_reading_ends_at_the_streams_end(bus: NatsBus) -> None:
    evt = flow.Evt("acme", "one", 1, "step-started")
    stored = [await bus.publish(evt, str(number).encode()) for number in range(5)]
    read = [message async for message in bus.read(flow.EVT, from_seq=stored[2].seq)]
    assert [message.data for message in read] == [b"2", b"3", b"4"]
    assert [message.seq for message in read] == [stored.seq for stored in stored[2:]]
    assert [message async for message in bus.read(flow.EVT, from_seq=stored[-1].seq + 1)] == []


async def test_records_appear_among_the_facts_without_a_second_publish(bus: NatsBus) -> None:
    await bus.publish(JOB, b"record", expect_seq=0)
    (copy,) = await take(bus.tail(flow.EVT, flow.RecordCopy.filter(), from_seq=1), 1)
    assert (copy.subject, copy.data) == (str(flow.RecordCopy("acme", "one")), b"record")


async def test_what_is_stored_is_told_live(bus: NatsBus) -> None:
    async with bus.listen("tail.>", "feed.>", "desired.>") as live:
        await bus.publish(flow.LogTo("acme", "one", 1, 2), b"chunk")
        await bus.publish(flow.Evt("acme", "one", 1, "step-started"), b"fact")
        await bus.publish(flow.OrderTo("c", "m", "acme", "one"), b"order")
        told = {message.subject: message.data for message in await take(live, 3)}
    assert told == {
        "tail.acme.one.1.2": b"chunk",
        "feed.acme.one.1.step-started": b"fact",
        "desired.c.m.acme.one": b"order",
    }


async def test_a_log_chunk_is_stored_under_its_partition(bus: NatsBus) -> None:
    await bus.publish(flow.LogTo("acme", "one", 1, 2), b"chunk")
    (stored,) = await bus.last_each(flow.LOG)
    at = flow.LogAt.parse(stored.subject)
    assert (at.tenant, at.job, at.epoch, at.step) == ("acme", "one", 1, 2)
    assert 0 <= at.partition < flow.LOG_PARTITIONS


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


async def test_work_comes_again_until_it_is_acknowledged(bus: NatsBus) -> None:
    for number in range(3):
        await bus.publish(flow.Submit("acme"), str(number).encode())
    seen: list[tuple[bytes, int]] = []
    async with asyncio.timeout(20):
        async for delivery in bus.work(flow.SUBMIT, "gateway"):
            seen.append((delivery.message.data, delivery.times_delivered))
            if delivery.message.data == b"1" and delivery.times_delivered == 1:
                await delivery.retry(0.05)
            else:
                await delivery.ack()
            if len(seen) == 4:
                break
    assert seen == [(b"0", 1), (b"1", 1), (b"2", 1), (b"1", 2)]


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


async def test_a_request_that_nobody_serves_says_so_at_once(bus: NatsBus) -> None:
    with pytest.raises(Unavailable, match="nobody serves it"):
        await bus.request("svc.cache.nothing")


async def test_a_responders_no_arrives_with_its_code_and_remedy(bus: NatsBus) -> None:
    async def no(_: Message) -> tuple[bytes, dict[str, str]]:
        raise NotFound(what="job", name="x")

    async with bus.serve("svc.cache.no", no):
        with pytest.raises(Rejected) as refused:
            await bus.request("svc.cache.no")
    assert (refused.value.code, refused.value.status, str(refused.value)) == ("not_found", 404, "There is no job x.")


async def test_a_responder_that_breaks_still_answers(bus: NatsBus) -> None:
    async def broken(_: Message) -> tuple[bytes, dict[str, str]]:
        raise ZeroDivisionError

    async with bus.serve("svc.cache.broken", broken):
        with pytest.raises(OverspillError, match="its log says why"):
            await bus.request("svc.cache.broken")


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


async def test_a_stream_is_purged_up_to_a_sequence_and_goes_on_counting(bus: NatsBus) -> None:
    for number in range(5):
        await bus.publish(str(flow.Buried(f"s{number}")), b"x")
    assert await bus.purge_through(flow.DLQ, 3) == 3
    assert [message.seq async for message in bus.read(flow.DLQ, from_seq=1)] == [4, 5]
    assert await bus.purge_through(flow.DLQ, 5) == 2
    assert (await bus.publish(str(flow.Buried("s", "t")), b"x")).seq == 6


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


async def test_what_a_message_says_of_itself_is_not_the_servers_word_on_it(bus: NatsBus) -> None:
    lies = {"Nats-Stream": "EVT", "Nats-Subject": "job.acme.two", "Nats-Sequence": "7", "Status": "404"}
    stored = await bus.publish(JOB, b"{}", headers=lies)
    found = await bus.last(flow.JOBS, JOB)
    assert found is not None
    assert (found.subject, found.seq, found.data) == (str(JOB), stored.seq, b"{}")


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
