"""The promises of `shared.bus.Bus`, in code. A test class inherits it and gives a `bus` fixture."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shared import flow
from shared.bus import Bus, Message
from shared.errors import NotFound, OverspillError, Rejected, Unavailable, WrongSequence

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


class BusContract:
    async def test_only_one_of_many_creators_wins(self, bus: Bus) -> None:
        async def create(number: int) -> bool:
            try:
                await bus.publish(JOB, str(number).encode(), expect_seq=0)
            except WrongSequence:
                return False
            return True

        assert sum(await asyncio.gather(*(create(number) for number in range(8)))) == 1

    async def test_a_write_on_an_old_sequence_changes_nothing(self, bus: Bus) -> None:
        first = await bus.publish(JOB, b"1", expect_seq=0)
        await bus.publish(JOB, b"2", expect_seq=first.seq)
        with pytest.raises(WrongSequence):
            await bus.publish(JOB, b"3", expect_seq=first.seq)
        newest = await bus.last(flow.JOBS, JOB)
        assert newest is not None
        assert newest.data == b"2"

    async def test_the_same_message_id_is_stored_once(self, bus: Bus) -> None:
        evt = flow.Evt("acme", "one", 1, "step-started")
        first = await bus.publish(evt, b"x", message_id="m")
        again = await bus.publish(evt, b"x", message_id="m")
        assert (again.duplicate, again.seq) == (True, first.seq)

    async def test_last_each_tells_every_subject_once_in_stream_order(self, bus: Bus) -> None:
        for number in range(3):
            await bus.publish(JOB, b"one%d" % number)
            await bus.publish(OTHER, b"two%d" % number)
        await bus.publish(flow.Spec("acme", "one"), b"spec")
        assert [message.data for message in await bus.last_each(flow.JOBS, flow.Job.filter())] == [b"one2", b"two2"]
        assert await bus.last_each(flow.JOBS, flow.Job.filter(tenant="nobody")) == []

    async def test_last_of_a_subject_that_never_was_is_none(self, bus: Bus) -> None:
        assert await bus.last(flow.JOBS, JOB) is None

    async def test_reading_ends_at_the_streams_end(self, bus: Bus) -> None:
        evt = flow.Evt("acme", "one", 1, "step-started")
        stored = [await bus.publish(evt, str(number).encode()) for number in range(5)]
        read = [message async for message in bus.read(flow.EVT, from_seq=stored[2].seq)]
        assert [message.data for message in read] == [b"2", b"3", b"4"]
        assert [message.seq for message in read] == [stored.seq for stored in stored[2:]]
        assert [message async for message in bus.read(flow.EVT, from_seq=stored[-1].seq + 1)] == []

    async def test_records_appear_among_the_facts_without_a_second_publish(self, bus: Bus) -> None:
        await bus.publish(JOB, b"record", expect_seq=0)
        (copy,) = await take(bus.tail(flow.EVT, flow.RecordCopy.filter(), from_seq=1), 1)
        assert (copy.subject, copy.data) == (str(flow.RecordCopy("acme", "one")), b"record")

    async def test_what_is_stored_is_told_live(self, bus: Bus) -> None:
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

    async def test_a_log_chunk_is_stored_under_its_partition(self, bus: Bus) -> None:
        await bus.publish(flow.LogTo("acme", "one", 1, 2), b"chunk")
        (stored,) = await bus.last_each(flow.LOG)
        at = flow.LogAt.parse(stored.subject)
        assert (at.tenant, at.job, at.epoch, at.step) == ("acme", "one", 1, 2)
        assert 0 <= at.partition < flow.LOG_PARTITIONS

    async def test_work_comes_again_until_it_is_acknowledged(self, bus: Bus) -> None:
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

    async def test_a_request_that_nobody_serves_says_so_at_once(self, bus: Bus) -> None:
        with pytest.raises(Unavailable, match="nobody serves it"):
            await bus.request("svc.cache.nothing")

    async def test_a_responders_no_arrives_with_its_code_and_remedy(self, bus: Bus) -> None:
        async def no(_: Message) -> tuple[bytes, dict[str, str]]:
            raise NotFound(what="job", name="x")

        async with bus.serve("svc.cache.no", no):
            with pytest.raises(Rejected) as refused:
                await bus.request("svc.cache.no")
        assert (refused.value.code, refused.value.status, str(refused.value)) == (
            "not_found",
            404,
            "There is no job x.",
        )

    async def test_a_responder_that_breaks_still_answers(self, bus: Bus) -> None:
        async def broken(_: Message) -> tuple[bytes, dict[str, str]]:
            raise ZeroDivisionError

        async with bus.serve("svc.cache.broken", broken):
            with pytest.raises(OverspillError, match="its log says why"):
                await bus.request("svc.cache.broken")

    async def test_a_first_write_told_again_is_a_conflict_even_under_its_own_id(self, bus: Bus) -> None:
        """Whoever lost the answer to a first write can't learn from a second one whose word stands."""
        evt = flow.Evt("acme", "one", 1, "attempt-accepted")
        await bus.publish(evt, b"mine", expect_seq=0, message_id="mine")
        with pytest.raises(WrongSequence):
            await bus.publish(evt, b"mine", expect_seq=0, message_id="mine")

    async def test_purged_subjects_are_gone_and_can_be_written_anew(self, bus: Bus) -> None:
        await bus.publish(JOB, b"1", expect_seq=0)
        await bus.publish(OTHER, b"2", expect_seq=0)
        assert await bus.purge(flow.JOBS, flow.Job.filter(job="one")) == 1
        assert await bus.last(flow.JOBS, JOB) is None
        assert [message.data for message in await bus.last_each(flow.JOBS)] == [b"2"]
        assert (await bus.publish(JOB, b"3", expect_seq=0)).seq == 3

    async def test_a_machines_picture_replaces_the_one_before_it(self, bus: Bus) -> None:
        picture = flow.MachineMetrics("c", "m")
        await bus.publish(picture, b"ready")
        await bus.publish(picture, b"lost")
        assert [message.data async for message in bus.read(flow.METRICS, from_seq=1)] == [b"lost"]

    async def test_a_purged_order_is_gone_with_all_its_versions(self, bus: Bus) -> None:
        order = flow.OrderTo("c", "m", "acme", "one")
        await bus.publish(order, b"run")
        await bus.publish(order, b"cancel")
        await bus.purge(flow.ORDERS, str(order))
        assert await bus.last(flow.ORDERS, order) is None
        assert await bus.last_each(flow.ORDERS) == []

    async def test_a_refused_write_is_told_before_anything_is_stored(self, bus: Bus) -> None:
        with pytest.raises(Rejected):
            await bus.publish(JOB, bytes(flow.JOBS.max_message_bytes + 1), expect_seq=0)
        assert await bus.end_seq(flow.JOBS) == 0

    async def test_a_stream_is_purged_up_to_a_sequence_and_goes_on_counting(self, bus: Bus) -> None:
        for number in range(5):
            await bus.publish(str(flow.Buried(f"s{number}", "t")), b"x")
        assert await bus.purge_through(flow.DLQ, 3) == 3
        assert [message.seq async for message in bus.read(flow.DLQ, from_seq=1)] == [4, 5]
        assert await bus.purge_through(flow.DLQ, 5) == 2
        assert (await bus.publish(str(flow.Buried("s", "t")), b"x")).seq == 6

    async def test_what_a_message_says_of_itself_is_not_the_servers_word_on_it(self, bus: Bus) -> None:
        lies = {"Nats-Stream": "EVT", "Nats-Subject": "job.acme.two", "Nats-Sequence": "7", "Status": "404"}
        stored = await bus.publish(JOB, b"{}", headers=lies)
        found = await bus.last(flow.JOBS, JOB)
        assert found is not None
        assert (found.subject, found.seq, found.data) == (str(JOB), stored.seq, b"{}")
