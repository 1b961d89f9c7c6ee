"""Parts in the object store: their keys are the index."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from services.log_collector import parts
from services.log_collector.model import LogId, PartName, Spans, attempt_prefix, job_prefix, logs_prefix
from services.log_collector.parts import Part
from shared.clock import Clock
from shared.errors import Poison
from shared.objects import ObjectInfo, Objects

_log = structlog.get_logger()

LISTING_SECONDS = 1.0
_LISTINGS = 1024
_DECODED_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """A log's parts, ascending, none within another. `newest_unix`: when the newest was stored."""

    parts: tuple[PartName, ...] = ()
    newest_unix: float = 0.0

    @property
    def total(self) -> int | None:
        """The whole log's length, once its end is stored."""
        return next((part.end for part in self.parts if part.ends), None)

    def spans(self) -> Spans:
        spans = Spans()
        for part in self.parts:
            spans.add(part.span)
        return spans

    @property
    def complete(self) -> bool:
        total = self.total
        return total is not None and self.spans().prefix_end >= total


def without_superseded(names: Iterable[PartName]) -> tuple[PartName, ...]:
    """A part that grew may still stand beside its successor: the longest counts."""
    kept: list[PartName] = []
    for name in sorted(names, key=lambda name: (name.start, -name.end, not name.ends)):
        within = bool(kept) and name.end <= kept[-1].end and name.start >= kept[-1].start
        if not within or (name.ends and not kept[-1].ends):
            kept.append(name)
    return tuple(kept)


class PartStore:
    """Everything raises Unavailable while the store is away."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._listings: OrderedDict[LogId, tuple[float, Stored]] = OrderedDict()
        self._decoded: OrderedDict[str, Part] = OrderedDict()
        self._decoded_bytes = 0

    async def load(self, log: LogId) -> Stored:
        """As it is now."""
        stored = _stored([found async for found in self._objects.list(log.prefix)])
        self._remember(log, stored)
        return stored

    async def glance(self, log: LogId) -> Stored:
        """As it was LISTING_SECONDS ago, or later. What is complete does not change any more."""
        at, stored = self._listings.get(log, (0.0, None))
        if stored is not None and (stored.complete or self._clock.monotonic() - at < LISTING_SECONDS):
            return stored
        return await self.load(log)

    async def load_steps(self, log: LogId, steps: Iterable[int]) -> dict[int, Stored]:
        """Several steps of the attempt of `log`, by one listing."""
        found: dict[int, list[ObjectInfo]] = {}
        prefix = attempt_prefix(log.tenant, log.job, log.epoch)
        async for item in self._objects.list(prefix):
            number = item.key.removeprefix(prefix).partition("/")[0]
            if number.isdigit():
                found.setdefault(int(number), []).append(item)
        return {step: _stored(found.get(step, [])) for step in steps}

    def _remember(self, log: LogId, stored: Stored) -> None:
        self._listings[log] = (self._clock.monotonic(), stored)
        self._listings.move_to_end(log)
        if len(self._listings) > _LISTINGS:
            self._listings.popitem(last=False)

    async def put(self, log: LogId, name: PartName, blob: bytes) -> None:
        await self._objects.put(name.key(log), blob)
        self._listings.pop(log, None)

    async def remove(self, keys: Iterable[str]) -> None:
        await self._objects.delete(*keys)

    async def read(self, log: LogId, name: PartName) -> Part:
        """Raises NotFound when the part grew meanwhile: load again."""
        key = name.key(log)
        part = self._decoded.get(key)
        if part is None:
            blob = await self._objects.get(key)
            part = await asyncio.to_thread(parts.decode, key, name.start, blob)
            self._decoded[key] = part
            self._decoded_bytes += len(part.data)
            while self._decoded_bytes > _DECODED_BYTES and len(self._decoded) > 1:
                self._decoded_bytes -= len(self._decoded.popitem(last=False)[1].data)
        else:
            self._decoded.move_to_end(key)
        return part

    async def forget(self, tenant: str, job: str | None) -> int:
        """Delete every part of the job's logs (None: of all the tenant's); how many."""
        prefix = logs_prefix(tenant) if job is None else job_prefix(tenant, job)
        keys = [found.key async for found in self._objects.list(prefix)]
        await self._objects.delete(*keys)
        for log in [log for log in self._listings if log.tenant == tenant and job in (None, log.job)]:
            del self._listings[log]
        for key in [key for key in self._decoded if key.startswith(prefix)]:
            self._decoded_bytes -= len(self._decoded.pop(key).data)
        return len(keys)


def _stored(found: list[ObjectInfo]) -> Stored:
    names: list[PartName] = []
    for item in found:
        try:
            name = PartName.read(item.key)
        except Poison:
            # Not ours: whoever put it there keeps it.
            continue
        if name.size_bytes == item.size_bytes:
            names.append(name)
        else:
            _log.warning("cut_part_ignored", key=item.key, size_bytes=item.size_bytes)
    return Stored(without_superseded(names), max((item.modified_unix for item in found), default=0.0))
