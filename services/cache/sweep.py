"""Removes what has expired. May run in many places at once and be killed anywhere: it decides from what is stored."""

from collections.abc import Mapping

import structlog

from services.cache import policy
from services.cache.model import EXPIRY_PREFIX, Marker, logs_prefix, used_key_of
from shared.errors import NotFound
from shared.objects import ObjectInfo, Objects

log = structlog.get_logger()

BATCH = 500


async def sweep_due(objects: Objects, now: float, limit: int) -> int:
    """Looks at what is due by now, at most `limit` objects; how many it deleted. Raises Unavailable."""
    deleted = looked = 0
    async for found in objects.list(EXPIRY_PREFIX):
        looked += 1
        # Keys come in order of their due time: nothing after this one is due.
        if looked > limit or Marker.read(found.key).due_unix > now:
            break
        deleted += await _settle(objects, found.key, now)
    if deleted:
        log.info("objects_expired", count=deleted)
    return deleted


async def _settle(objects: Objects, path: str, now: float) -> int:
    try:
        marker = Marker.read(path, await objects.get(path))
    except NotFound:
        # Another sweep was faster.
        return 0
    used_at = used_key_of(marker.key)
    changed = await objects.info(marker.key)
    used = await objects.info(used_at) if used_at is not None else None
    match policy.judge(marker, _modified(changed), _modified(used), now):
        case policy.Extend(later):
            await objects.put(later.path, later.body())
            await objects.delete(path)
            return 0
        case policy.Expire():
            await objects.delete(*[key for key in (marker.key, used_at) if key is not None])
            await objects.delete(path)
            return 1
        case policy.Forget():
            await objects.delete(path)
            return 0


def _modified(info: ObjectInfo | None) -> float | None:
    return None if info is None else info.modified_unix


async def sweep_logs(objects: Objects, keep_seconds: Mapping[str, float], now: float) -> int:
    """Deletes every tenant's parts of logs past their age; how many. Raises Unavailable."""
    deleted = 0
    for tenant, keep in keep_seconds.items():
        batch: list[str] = []
        async for found in objects.list(logs_prefix(tenant)):
            if policy.log_has_expired(found.modified_unix, keep, now):
                batch.append(found.key)
            if len(batch) >= BATCH:
                await objects.delete(*batch)
                deleted += len(batch)
                batch = []
        await objects.delete(*batch)
        deleted += len(batch)
    if deleted:
        log.info("log_parts_expired", count=deleted)
    return deleted
