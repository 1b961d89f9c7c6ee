"""The object store as services see it. `shared.adapters.s3_objects.S3Objects` is the real one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size_bytes: int
    modified_unix: float


class Objects(Protocol):
    """Blobs by key. Everything raises Unavailable while the store can't be reached, NotFound for an absent key."""

    async def put(self, key: str, data: bytes) -> None:
        """Durable when it returns. An existing key is replaced."""
        ...

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes [start, end) of it."""
        ...

    async def info(self, key: str) -> ObjectInfo | None: ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]: ...

    async def delete(self, *keys: str) -> None:
        """Absent keys are no error."""
        ...

    async def presign(
        self,
        method: Literal["GET", "PUT"],
        key: str,
        *,
        expires_seconds: int,
        size_bytes: int | None = None,
        filename: str = "",
    ) -> str:
        """An address that lets whoever holds it do just this. For PUT, `size_bytes` is signed: another length is
        refused.
        """
        ...
