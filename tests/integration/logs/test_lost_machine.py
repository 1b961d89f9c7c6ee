"""A machine that is gone for good takes bytes with it: every reader is told, and how many as far as anybody knows."""

from shared.facts.log import LogChunk
from shared.flow import LogTo
from tests.integration.gateway.test_streams import Stream, bytes_of, open_stream
from tests.integration.log_collector.steps import quick
from tests.integration.logs.machine import Place
from tests.integration.logs.reading import followed, overspill, read


async def test_a_log_that_ends_with_its_machine_says_so_at_every_door(place: Place) -> None:
    async with place.collecting(quick()):
        attempt = await place.start({"steps": [{"run": "echo some words; echo and more >&2; sleep 600"}]})
        job = attempt.job
        async with open_stream(place.gateway, f"/v1/jobs/{job}/logs?follow=true&step=1") as response:
            stream = Stream(response)
            seen = b""
            while seen != b"some words\nand more\n":
                seen += bytes_of(await stream.next("log"))
            attempt.lose()
            await place.end(job, "error", "machine_lost")
            event = await stream.next("log")
            assert event["data"]["offset"] == len(seen)
            assert (event["data"]["missing_bytes"], event["data"]["missing_at_least"]) == (0, True)
            assert "an unknown number of bytes" in event["data"]["notice"]
            assert (await stream.next())["event"] == "end"
        answer = await read(place, job, step=1)
        assert answer.text.startswith("some words\nand more\n\n[overspill: an unknown number of bytes")
        assert (answer.headers["overspill-log-complete"], answer.headers["overspill-log-missing"]) == ("false", "0+")
        answer = await read(place, job)
        assert answer.headers["overspill-log-complete"] == "false"
        assert "an unknown number of bytes at the end of this log were lost with their machine" in answer.text
        for command in (("logs", job, "--step", "1"), ("logs", job, "-f"), ("logs", job, "--json")):
            assert b"an unknown number of bytes at the end of this log" in await overspill(place, *command)
        ranged = await place.gateway.get(f"/v1/jobs/{job}/logs?step=1", headers={"Range": "bytes=5-"})
        assert (ranged.content, ranged.headers["content-range"]) == (b"words\nand more\n", "bytes 5-19/*")
        assert ranged.headers["overspill-log-missing"] == "0+"


async def test_what_was_written_but_never_came_is_counted(place: Place) -> None:
    """The bus holds less than the step wrote when the machine goes; each chunk said how long the log was by then."""
    job = await place.gateway.submit({"steps": [{"run": "x"}, {"run": "y"}]})
    await place.gateway.move(job, state="placed", epoch=1, placement={"cluster": "c1", "pool": "p", "target": "m1"})
    subject = LogTo(place.gateway.tenant, job, 1, 1)
    for offset, written in ((0, 1_000), (5, 2_000_000)):
        chunk = LogChunk(offset, b"hello", (), written_bytes=written)
        await place.bus.publish(subject, chunk.data, headers=chunk.headers())
    await place.end(job, "error", "machine_lost")
    for instance in ("first", "second"):
        # The second collector has nothing but what the first one stored.
        async with place.collecting(quick(instance)):
            answer = await read(place, job, step=1)
            assert answer.headers["overspill-log-missing"] == "1999990+"
            notice = "[overspill: at least 1999990 bytes of this log were lost with their machine]"
            assert answer.text == f"hellohello\n{notice}\n"
            *_, last = await followed(place, job, step=1)
            assert (last["missing_bytes"], last["missing_at_least"], last["notice"]) == (1_999_990, True, notice)
            assert (await read(place, job, step=2)).headers["overspill-log-complete"] == "true"


async def test_of_a_step_whose_end_was_told_the_number_is_exact(place: Place) -> None:
    await place.bound_backlog(2)
    attempt = await place.start({"steps": [{"run": "head -c 300000 /dev/zero"}, {"run": "sleep 600"}]})
    await place.until(attempt, "step-ended")
    attempt.lose()
    await place.end(attempt.job, "error", "machine_lost")
    async with place.collecting(quick()):
        answer = await read(place, attempt.job, step=1)
        data, _, notice = answer.content.partition(b"\n")
        missing = 300_000 - len(data)
        assert data == bytes(len(data))
        assert 0 < missing < 300_000
        assert notice == f"[overspill: {missing} bytes of this log were lost with their machine]\n".encode()
        assert answer.headers["overspill-log-missing"] == str(missing)
        (*_, last) = await followed(place, attempt.job, step=1)
        assert (last["missing_bytes"], last["missing_at_least"]) == (missing, False)


async def test_a_machine_that_comes_back_makes_its_log_whole(place: Place) -> None:
    """It was cut off, and given up; what it still has is taken."""
    await place.bound_backlog(2)
    attempt = await place.start({"steps": [{"run": "head -c 300000 /dev/zero"}]})
    await place.until(attempt, "step-ended")
    await place.end(attempt.job, "error", "machine_lost")
    async with place.collecting(quick()):
        await place.told(attempt)
        answer = await read(place, attempt.job, step=1)
        assert (answer.content, answer.headers["overspill-log-complete"]) == (bytes(300_000), "true")


async def test_a_hole_in_a_lost_log_is_told_at_once(place: Place) -> None:
    job = await place.gateway.submit({"steps": [{"run": "x"}]})
    await place.gateway.move(job, state="placed", epoch=1, placement={"cluster": "c1", "pool": "p", "target": "m1"})
    subject = LogTo(place.gateway.tenant, job, 1, 1)
    for chunk in (LogChunk(0, b"begin"), LogChunk(10, b"end", (), 13, "")):
        await place.bus.publish(subject, chunk.data, headers=chunk.headers())
    await place.end(job, "error", "machine_lost")
    async with place.collecting(quick(hole_seconds=3600)):
        answer = await read(place, job, step=1)
        assert answer.text == "begin\n[overspill: 5 bytes of this log were lost with their machine]\nend"
        assert (answer.headers["overspill-log-complete"], answer.headers["overspill-log-missing"]) == ("false", "5")
        ranged = await place.gateway.get(f"/v1/jobs/{job}/logs?step=1", headers={"Range": "bytes=0-"})
        assert ranged.content == b"begin" + bytes(5) + b"end"


async def test_the_end_of_a_log_is_waited_for_when_the_collector_lags(place: Place) -> None:
    """The verdict came when the bus had the log; nobody reads it yet. No reader is given less."""
    attempt = await place.start({"steps": [{"run": "seq 1 50000"}]})
    await place.ended(attempt)
    refused = await place.gateway.get(f"/v1/jobs/{attempt.job}/logs?step=1")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    async with place.collecting(quick()):
        wrote = "".join(f"{number}\n" for number in range(1, 50_001))
        assert (await read(place, attempt.job, step=1)).text == wrote
        assert "".join(piece["text"] for piece in await followed(place, attempt.job, step=1)) == wrote
        await place.told(attempt)
