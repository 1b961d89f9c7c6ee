"""Identifiers. What travels in a subject is a token `[a-z0-9-]{1,40}`; display names live in payloads."""

import base64
import hashlib
import re
import secrets
from typing import Annotated, NewType

from pydantic import Field

TOKEN = re.compile(r"[a-z0-9-]{1,40}")

Token = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
TenantId = Token
JobId = Token
ClusterId = Token
MachineId = Token
PoolId = Token
Epoch = Annotated[int, Field(ge=0, le=999)]
"""Number of an attempt of a job, from 1; 0 marks facts of the hub about the job itself."""
StepNumber = Annotated[int, Field(ge=0, le=999)]
"""From 1 in the spec's order; 0 is the platform's own log of an attempt."""

WriteId = NewType("WriteId", str)


def is_token(text: str) -> bool:
    return TOKEN.fullmatch(text) is not None


def _digest(*parts: str) -> str:
    # Lengths are hashed too, so that ("a", "bc") and ("ab", "c") differ.
    hasher = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        hasher.update(len(raw).to_bytes(8, "big") + raw)
    return base64.b32encode(hasher.digest()[:16]).decode().rstrip("=").lower()


def random_id() -> str:
    """26 characters, 128 random bits."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def job_id_from_key(tenant: str, idempotency_key: str) -> str:
    """The same tenant and key always name the same job."""
    return _digest("key", tenant, idempotency_key)


def job_id_from_event(tenant: str, source: str, event_id: str) -> str:
    """CloudEvents: source + id name an event uniquely."""
    return _digest("event", tenant, source, event_id)


def token_from(name: str) -> str:
    """A subject token for any Unicode display name: readable where it can be, unambiguous always."""
    if is_token(name):
        return name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:23]
    return f"{slug}-{_digest('name', name)[:16]}".strip("-")
