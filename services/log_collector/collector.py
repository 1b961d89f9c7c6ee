"""One collector among its like: reads the partitions that are its own, keeps checkpoints, gives partitions up."""

import asyncio

import structlog

from services.log_collector.active import ActiveLogs
from services.log_collector.membership import Membership
from services.log_collector.model import LogId
from services.log_collector.partition import Checkpoints, PartitionReader
from services.log_collector.settings import Settings
from services.log_collector.sharing import owned_by, owner_of, partition_of
from shared.bus import Bus
from shared.crash_points import crash_point
from shared.errors import OverspillError
from shared.flow import LOG

log = structlog.get_logger()

_PURGERS_PARTITION = 0
"""Who owns it purges."""


class Collector:
    """Starts and stops readers as the membership changes."""

    def __init__(
        self, settings: Settings, bus: Bus, logs: ActiveLogs, membership: Membership, tasks: asyncio.TaskGroup
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._logs = logs
        self._membership = membership
        self._tasks = tasks
        self._checkpoints = Checkpoints(bus)
        self._readers: dict[int, tuple[PartitionReader, asyncio.Task[None]]] = {}
        self._purged = 0
        self.sharing = asyncio.Event()
        """Set once this collector has taken its place."""

    def owner(self, which: LogId) -> str | None:
        return owner_of(partition_of(which.tenant, which.job), self._membership.members)

    def reader(self, which: LogId) -> PartitionReader | None:
        """The reader of its partition, if that is ours."""
        found = self._readers.get(partition_of(which.tenant, which.job))
        return found[0] if found is not None else None

    async def checkpoint_of(self, which: LogId) -> int:
        return await self._checkpoints.get(partition_of(which.tenant, which.job))

    async def share(self) -> None:
        """Called when the members changed."""
        wanted = owned_by(self._settings.instance, self._membership.members)
        for partition in sorted(self._readers.keys() - wanted):
            reader, task = self._readers.pop(partition)
            task.cancel()
            self._tasks.create_task(self._hand_over(reader))
        for partition in sorted(wanted - self._readers.keys()):
            reader = PartitionReader(partition, self._bus, self._logs, self._checkpoints)
            self._readers[partition] = (reader, self._tasks.create_task(reader.run()))
        self.sharing.set()
        log.info("partitions_shared", mine=sorted(wanted))

    async def _hand_over(self, reader: PartitionReader) -> None:
        """What we hold of it is stored, so that the next one need not read it; then it's out of our memory."""
        await self._store_all([reader])
        if reader.partition not in self._readers:
            self._logs.drop(reader.owns)

    async def _store_all(self, readers: list[PartitionReader]) -> None:
        try:
            async with asyncio.timeout(self._settings.leave_seconds):
                await self._logs.flush_all(lambda which: any(reader.owns(which) for reader in readers))
                await self._tell_checkpoints(readers)
        except (TimeoutError, OverspillError) as error:
            log.warning("left_before_all_was_stored", error=str(error) or "timed out")

    async def _tell_checkpoints(self, readers: list[PartitionReader]) -> None:
        stream_end = await self._bus.end_seq(LOG)
        for reader in readers:
            await reader.tell_checkpoint(stream_end)

    async def _purge(self, stream_end: int) -> None:
        """LOG keeps no chunk whose bytes the object store has. One collector is enough to see to it."""
        if _PURGERS_PARTITION not in self._readers or self._purged == stream_end:
            return
        floor = await self._checkpoints.floor()
        if self._purged < floor <= stream_end:
            await self._bus.purge_through(LOG, floor)
            self._purged = floor

    async def keep(self) -> None:
        """Checkpoints and what else has to be done now and then; never ends."""
        while True:
            await asyncio.sleep(self._settings.checkpoint_seconds)
            try:
                await self._tell_checkpoints([reader for reader, _ in self._readers.values()])
                await self._purge(await self._bus.end_seq(LOG))
            except OverspillError as error:
                log.warning("checkpoint_put_off", error=str(error))
            crash_point("log-collector.after-checkpoint-before-delete")
            await self._logs.remove_superseded()
            self._logs.drop_idle()

    async def leave(self) -> None:
        """The orderly end: everything stored, the partitions free."""
        readers = [reader for reader, _ in self._readers.values()]
        for _, task in self._readers.values():
            task.cancel()
        await self._store_all(readers)
        await self._logs.remove_superseded()
        await self._membership.leave()
