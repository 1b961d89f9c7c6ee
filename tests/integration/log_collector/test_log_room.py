"""An object store that takes nothing fills the logs' share of the bus' store, and no more than that."""

import asyncio

from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import stream_config
from shared.adapters.s3_objects import S3Objects
from shared.errors import StreamFull, Unavailable
from shared.flow import LOG, LogAt
from tests.integration.log_collector.steps import PATIENCE_SECONDS, Step, collecting, quick


class Away:
    """An object store whose disk is full until `room` is set: everything but writing works."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects
        self.room = asyncio.Event()
        self.refused = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    async def put(self, key: str, data: bytes) -> None:
        if not self.room.is_set():
            self.refused += 1
            raise Unavailable(what="the object store", why="it answered 507 InsufficientStorage")
        await self._objects.put(key, data)


async def test_a_full_object_store_fills_the_share_of_logs_and_no_more_and_all_goes_on_by_itself(
    bus: NatsBus, objects: S3Objects
) -> None:
    store_bytes = 8 * 2**20
    await bus.purge(LOG, LogAt.filter())
    await api(bus, "STREAM.UPDATE.LOG", stream_config(LOG, 1, store_bytes))
    step, away = Step(bus), Away(objects)
    try:
        async with collecting(quick(), bus, away):
            full = False
            while not full:
                try:
                    await step.say(bytes([step.sent % 251]) * 60_000)
                except StreamFull:
                    full = True
                assert step.sent < store_bytes
            told = await bus.store()
            assert told.log_bytes <= told.log_limit_bytes == int(LOG.share * store_bytes)
            await bus.publish("job.acme.other", b"{}")  # what ends jobs is stored as before
            away.room.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    try:
                        await step.end()
                    except StreamFull:
                        await asyncio.sleep(0.05)
                    else:
                        break
            await step.until_complete()
            data, read = await step.log()
            assert (len(data), read.verified) == (step.sent, True)
            assert away.refused
    finally:
        await api(bus, "STREAM.UPDATE.LOG", stream_config(LOG, 1))
