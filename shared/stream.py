"""Streams and buckets as values: what `shared.flow` declares and `shared.adapters.provision` makes."""

from dataclasses import dataclass
from typing import Literal

STORE_BYTES = 10 * 2**30
"""What all streams together may take on disk when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A JetStream stream. Ages in seconds (0: for ever), sizes in bytes."""

    name: str
    subjects: tuple[str, ...]
    policy: Literal["limits", "workqueue"] = "limits"
    keeps_seconds: float = 0
    last_only: bool = False
    """One message a subject. For subjects that are never purged: after a purge and the server's violent end an older
    one may stand again.
    """
    max_messages_per_subject: int = -1
    """With `discard` new, a subject that has so many takes no more until some are gone; others go on."""
    max_bytes: int = -1
    share: float = 0
    """Of the bus' store that it may take at most (0: no bound of its own). What has one can't eat the space that
    records, orders and facts need to end what runs."""
    max_message_bytes: int = 1_048_576
    discard: Literal["old", "new"] = "old"
    duplicate_window_seconds: float = 120
    republish: tuple[str, str] | None = None
    transform: tuple[str, str] | None = None
    sources: tuple[str, str, str] | None = None
    """(stream, filter, transform destination)"""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A key-value bucket. `ttl_seconds` 0: entries live until deleted; `per_key_ttl`: a write may carry its own."""

    name: str
    per_key_ttl: bool = False
    history: int = 1


@dataclass(frozen=True, slots=True)
class Store:
    """How full the bus' store is. `log_…`: the part of it that waits for the object store."""

    used_bytes: int
    limit_bytes: int
    log_bytes: int
    log_limit_bytes: int
