"""A log from its file to a bus that fails as it likes."""

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from runner.step_ctl.courier import Patience
from runner.step_ctl.log_pump import LogPump
from runner.step_ctl.masking import Mask
from shared.errors import OutcomeUnknown, Unavailable
from shared.facts.log import LogChunk


class Courier:
    """Takes chunks in the order they are sent, fails some before and some after they are stored."""

    def __init__(self, seed: int = 0, trouble: float = 0.0) -> None:
        self.chunks: list[LogChunk] = []
        self.rounds: list[int] = []
        self._random = random.Random(seed)
        self._trouble = trouble
        self.came = asyncio.Event()

    async def send(self, step: int, chunk: LogChunk, again: int = 0) -> None:
        del step
        self.rounds.append(again)
        luck = self._random.random()
        if luck < self._trouble:
            raise Unavailable(what="bus", why="test")
        self.chunks.append(chunk)
        self.came.set()
        await asyncio.sleep(0)
        if luck < 2 * self._trouble:
            raise OutcomeUnknown(what="bus", why="test")

    def patience(self) -> Patience:
        class Now:
            next = asyncio.Event()

        Now.next.set()
        return Patience(Now())  # type: ignore[arg-type]

    def log(self) -> bytes:
        data = b""
        for chunk in self.chunks:
            assert chunk.offset <= len(data) or chunk.last, "a hole"
            if chunk.offset <= len(data) < chunk.end:
                data += chunk.data[len(data) - chunk.offset :]
        return data


@pytest.mark.parametrize("seed", range(8))
async def test_a_log_is_whole_whatever_fails(tmp_path: Path, seed: int) -> None:
    data = random.Random(seed).randbytes(1_500_000)
    courier = Courier(seed, 0.15)
    pump = LogPump(1, tmp_path, courier, Mask())  # type: ignore[arg-type]
    running = asyncio.create_task(pump.run())
    with (tmp_path / "log").open("wb", buffering=0) as file:
        for at in range(0, len(data), 200_000):
            file.write(data[at : at + 200_000])
            pump.grown.set()
            await asyncio.sleep(0)
    pump.end()
    assert await running == len(data)
    last = courier.chunks[-1]
    assert (last.total, last.sha256) == (len(data), hashlib.sha256(data).hexdigest())


async def test_a_few_bytes_do_not_wait_for_more(tmp_path: Path) -> None:
    courier = Courier()
    pump = LogPump(1, tmp_path, courier, Mask())  # type: ignore[arg-type]
    running = asyncio.create_task(pump.run())
    (tmp_path / "log").write_bytes(b"hello")
    pump.grown.set()
    await asyncio.wait_for(courier.came.wait(), 10)
    assert courier.chunks[0].data == b"hello"
    pump.end()
    await running
    assert [chunk.data for chunk in courier.chunks] == [b"hello", b""]


async def test_a_log_goes_on_where_it_is_durable_with_the_hash_of_all(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(300_000)
    (tmp_path / "log").write_bytes(data)
    courier = Courier()
    pump = LogPump(1, tmp_path, courier, Mask(), begin=250_000)  # type: ignore[arg-type]
    pump.end()
    assert await pump.run() == len(data)
    assert courier.chunks[0].offset == 250_000
    assert courier.chunks[-1].sha256 == hashlib.sha256(data).hexdigest()
    pump.send_again(0)
    await pump.run()
    # Under another round: the stream would pass over what it has had under the same ids.
    assert (courier.rounds[0], courier.rounds[-1]) == (0, 1)
    assert courier.chunks[-1].sha256 == hashlib.sha256(data).hexdigest()


async def test_a_step_without_output_has_a_last_chunk(tmp_path: Path) -> None:
    courier = Courier()
    pump = LogPump(1, tmp_path, courier, Mask())  # type: ignore[arg-type]
    pump.end()
    assert await pump.run() == 0
    (only,) = courier.chunks
    assert (only.total, only.sha256) == (0, hashlib.sha256(b"").hexdigest())


async def test_secrets_are_covered_also_across_chunks(tmp_path: Path) -> None:
    data = b"x" * 65_533 + b"s3cret" + b"y" * 10
    (tmp_path / "log").write_bytes(data)
    courier = Courier()
    pump = LogPump(1, tmp_path, courier, Mask([b"s3cret"]))  # type: ignore[arg-type]
    pump.end()
    await pump.run()
    assert courier.log() == data.replace(b"s3cret", b"******")


async def test_the_end_of_a_log_never_overtakes_a_chunk_that_is_refused(tmp_path: Path) -> None:
    """A full bus takes the small last chunk where it had no room for the large one before."""

    class Full(Courier):
        refusals = 3

        async def send(self, step: int, chunk: LogChunk, again: int = 0) -> None:
            if chunk.offset == 65_536 and self.refusals:
                self.refusals -= 1
                raise Unavailable(what="bus", why="full")
            assert not chunk.last or not self.refusals
            await super().send(step, chunk, again)

    data = random.Random(2).randbytes(65_536 * 2 + 10)
    (tmp_path / "log").write_bytes(data)
    courier = Full()
    pump = LogPump(1, tmp_path, courier, Mask())  # type: ignore[arg-type]
    pump.end()
    assert await pump.run() == len(data)
    assert courier.log() == data


async def test_a_log_that_lost_its_end_with_the_machines_power_claims_no_sum(tmp_path: Path) -> None:
    """More of it is durable than the file still has: what was stored stands, its sum can't be made any more."""
    (tmp_path / "log").write_bytes(b"x" * 100)
    courier = Courier()
    pump = LogPump(1, tmp_path, courier, Mask(), begin=250)  # type: ignore[arg-type]
    pump.end()
    assert await pump.run() == 250
    (only,) = courier.chunks
    assert (only.offset, only.data, only.total, only.sha256) == (250, b"", 250, None)
