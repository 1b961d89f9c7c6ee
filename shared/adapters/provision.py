"""Streams and buckets as `shared.flow` declares them: created, or brought up to date."""

from typing import TYPE_CHECKING, Any

import structlog

from shared.adapters.nats_api import STORE_NOTE, Missing, api
from shared.errors import StreamFull
from shared.flow import BUCKETS, STREAMS
from shared.stream import STORE_BYTES, Bucket, Stream

if TYPE_CHECKING:
    from shared.adapters.nats_bus import NatsBus

log = structlog.get_logger()

LEAST_BOUND_BYTES = 64 * 2**20


async def provision(bus: "NatsBus", replicas: int = 1, store_bytes: int = STORE_BYTES) -> None:
    """Idempotent. Needs a credential that may call the whole JetStream API. Raises Unavailable, OverspillError.

    `store_bytes`: what all streams together may take, of which some have shares. It is noted with each stream, so
    that whoever reads one can tell how full the store is.
    """
    for stream in STREAMS:
        await _ensure(bus, stream_config(stream, replicas, store_bytes))
    for bucket in BUCKETS:
        await _ensure(bus, bucket_config(bucket, replicas))


async def _ensure(bus: "NatsBus", config: dict[str, Any]) -> None:
    """A bound in bytes is room the server sets aside: where there is less, the bound is smaller."""
    while True:
        try:
            await _create_or_update(bus, config)
        except StreamFull:
            if config.get("max_bytes", -1) < LEAST_BOUND_BYTES:
                raise
            config["max_bytes"] //= 2
            log.warning("stream_bound_lowered", stream=config["name"], max_bytes=config["max_bytes"])
        else:
            return


async def _create_or_update(bus: "NatsBus", config: dict[str, Any]) -> None:
    name = config["name"]
    try:
        await api(bus, f"STREAM.INFO.{name}")
    except Missing:
        await api(bus, f"STREAM.CREATE.{name}", config)
    else:
        await api(bus, f"STREAM.UPDATE.{name}", config)


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _bound(stream: Stream, store_bytes: int) -> int:
    bounds = [bound for bound in (stream.max_bytes, int(stream.share * store_bytes)) if bound > 0]
    return min(bounds, default=-1)


def stream_config(stream: Stream, replicas: int, store_bytes: int = STORE_BYTES) -> dict[str, Any]:
    """JetStream's configuration of a stream."""
    config: dict[str, Any] = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": stream.policy,
        "storage": "file",
        "num_replicas": replicas,
        "max_age": _ns(stream.keeps_seconds),
        "max_bytes": _bound(stream, store_bytes),
        "max_msg_size": stream.max_message_bytes,
        "max_msgs_per_subject": 1 if stream.last_only else stream.max_messages_per_subject,
        "discard": stream.discard,
        "discard_new_per_subject": stream.discard == "new" and stream.max_messages_per_subject > 0,
        "duplicate_window": _ns(stream.duplicate_window_seconds),
        "allow_direct": True,
        "deny_delete": False,
        "allow_rollup_hdrs": False,
        "metadata": {STORE_NOTE: str(store_bytes)},
    }
    if stream.republish:
        config["republish"] = {"src": stream.republish[0], "dest": stream.republish[1]}
    if stream.transform:
        config["subject_transform"] = {"src": stream.transform[0], "dest": stream.transform[1]}
    if stream.sources:
        origin, subject, destination = stream.sources
        config["sources"] = [{"name": origin, "subject_transforms": [{"src": subject, "dest": destination}]}]
    return config


def bucket_config(bucket: Bucket, replicas: int) -> dict[str, Any]:
    """A bucket's stream, as NATS' own clients make it."""
    return {
        "name": f"KV_{bucket.name}",
        "subjects": [f"$KV.{bucket.name}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": bucket.history,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_msg_ttl": bucket.per_key_ttl,
        "duplicate_window": _ns(120),
    }
