"""The bus edge: questions in, presigned addresses out."""

from collections import OrderedDict

import structlog

from services.cache import policy
from services.cache.model import (
    EXPIRY_PREFIX,
    Marker,
    artifact_key,
    artifacts_prefix,
    source_key,
    tenant_prefix,
    used_key,
)
from services.cache.settings import Settings
from shared.bus import Bus, Headers, Message
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import NotFound, Unavailable
from shared.facts import JobRecord
from shared.flow import JOBS, Ask, Job, Spec
from shared.objects import Objects
from shared.requests import (
    DownloadAsked,
    ForgetAsked,
    ForgetTold,
    Presigned,
    SourceCheckAsked,
    SourceCheckTold,
    SourceUploadAsked,
    SourceUploadTold,
    UrlsAsked,
    UrlsTold,
)
from shared.spec import JobSpec
from shared.wire import decode, encode

log = structlog.get_logger()

Answer = tuple[bytes, Headers]

USE_TOLD_EVERY_SECONDS = 12 * 3600.0
_USES_REMEMBERED = 4096


class Door:
    """Signs addresses. Every method answers one kind of request."""

    def __init__(self, settings: Settings, bus: Bus, objects: Objects, clock: Clock) -> None:
        self._settings = settings
        self._bus = bus
        self._objects = objects
        self._clock = clock
        self._told_uses: OrderedDict[str, float] = OrderedDict()

    async def source_upload(self, message: Message) -> Answer:
        """svc.cache.source-upload"""
        asked = decode(SourceUploadAsked, message.data)
        key = source_key(asked.tenant, asked.sha256)
        there = await self._objects.info(key)
        # An upload that broke off may have left a shorter object (SeaweedFS keeps an empty one).
        if there is not None and there.size_bytes == asked.size_bytes:
            await self._tell_use(asked.tenant, asked.sha256)
            return encode(SourceUploadTold(source=asked.sha256, exists=True)), {}
        await self._mark(key, self._settings.source_keep_seconds)
        crash_point("cache.after-marker-before-source-address")
        url = await self._objects.presign(
            "PUT", key, expires_seconds=self._settings.url_seconds, size_bytes=asked.size_bytes
        )
        put = Presigned(method="PUT", url=url, key=key, expires_unix=self._expires_unix())
        return encode(SourceUploadTold(source=asked.sha256, exists=False, put=put)), {}

    async def source_check(self, message: Message) -> Answer:
        """svc.cache.source-check"""
        asked = decode(SourceCheckAsked, message.data)
        there = await self._objects.info(source_key(asked.tenant, asked.source))
        exists = there is not None and there.size_bytes > 0
        if exists:
            await self._tell_use(asked.tenant, asked.source)
        return encode(SourceCheckTold(exists=exists)), {}

    async def download(self, message: Message) -> Answer:
        """svc.cache.download. Raises NotYours, NotFound."""
        asked = decode(DownloadAsked, message.data)
        policy.check_own(asked.tenant, asked.key)
        if await self._objects.info(asked.key) is None:
            raise NotFound(what="object", name=asked.key)
        return encode(await self._get(asked.key, asked.filename)), {}

    async def forget(self, message: Message) -> Answer:
        """svc.cache.forget: a job's artifacts, or everything of a tenant. Asking again changes nothing."""
        asked = decode(ForgetAsked, message.data)
        if asked.job is not None:
            return encode(ForgetTold(objects=await self._delete_all(artifacts_prefix(asked.tenant, asked.job)))), {}
        count = await self._delete_all(tenant_prefix(asked.tenant))
        async for marker in self._objects.list(EXPIRY_PREFIX):
            if Marker.read(marker.key).key.startswith(tenant_prefix(asked.tenant)):
                await self._objects.delete(marker.key)
        self._told_uses.clear()
        return encode(ForgetTold(objects=count)), {}

    async def _delete_all(self, prefix: str) -> int:
        keys = [found.key async for found in self._objects.list(prefix)]
        await self._objects.delete(*keys)
        return len(keys)

    async def urls(self, message: Message) -> Answer:
        """ask.<tenant>.<job>.<epoch>.urls. Raises NotFound, NotCurrent, NotInSpec."""
        who = Ask.parse(message.subject)
        asked = decode(UrlsAsked, message.data)
        spec = await self._spec_of(who)
        source = None
        if asked.source:
            tree = policy.tree_of(spec)
            await self._tell_use(who.tenant, tree)
            source = await self._get(source_key(who.tenant, tree), "")
        artifacts = {}
        for artifact in policy.artifacts_of(spec, asked.artifacts):
            key = artifact_key(who.tenant, who.job, who.epoch, artifact.name)
            await self._mark(key, artifact.expire)
            crash_point("cache.after-marker-before-address")
            url = await self._objects.presign("PUT", key, expires_seconds=self._settings.url_seconds)
            artifacts[artifact.name] = Presigned(method="PUT", url=url, key=key, expires_unix=self._expires_unix())
        return encode(UrlsTold(source=source, artifacts=artifacts)), {}

    async def _spec_of(self, who: Ask) -> JobSpec:
        record = await self._bus.last(JOBS, Job(who.tenant, who.job))
        spec = await self._bus.last(JOBS, Spec(who.tenant, who.job))
        if record is None or spec is None:
            raise NotFound(what="job", name=who.job)
        policy.check_current(decode(JobRecord, record.data), who.epoch)
        return JobSpec.model_validate_json(spec.data)

    async def _get(self, key: str, filename: str) -> Presigned:
        url = await self._objects.presign("GET", key, expires_seconds=self._settings.url_seconds, filename=filename)
        return Presigned(method="GET", url=url, key=key, expires_unix=self._expires_unix())

    def _expires_unix(self) -> int:
        return int(self._clock.now()) + self._settings.url_seconds

    async def _mark(self, key: str, keep_seconds: float) -> None:
        marker = Marker.after(key, self._clock.now(), keep_seconds)
        await self._objects.put(marker.path, marker.body())

    async def _tell_use(self, tenant: str, sha256: str) -> None:
        """The object's time of change is the last use: told seldom, since it is only compared with days."""
        key, now = used_key(tenant, sha256), self._clock.monotonic()
        told = self._told_uses.get(key)
        if told is not None and now - told < USE_TOLD_EVERY_SECONDS:
            return
        try:
            await self._objects.put(key, b"")
        except Unavailable as error:
            # A store that is full still gives what it has; the use is told the next time.
            log.warning("use_not_told", key=key, error=str(error))
            return
        self._told_uses[key] = now
        self._told_uses.move_to_end(key)
        if len(self._told_uses) > _USES_REMEMBERED:
            self._told_uses.popitem(last=False)
