"""NATS' JWTs, version 2: what an operator says of its accounts, and an account of its users."""

import base64
import hashlib
import time
from collections.abc import Iterable
from typing import Any

import orjson

from shared.adapters.nkeys import KeyPair
from shared.parties import Crossing

_NO_LIMIT = -1
_FOR_EVER = 2**40
"""Users of before this Unix time are refused: all."""
_ACCOUNT_LIMITS = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _NO_LIMIT)
_JETSTREAM_LIMITS = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _NO_LIMIT)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


_HEADER = _base64(orjson.dumps({"typ": "JWT", "alg": "ed25519-nkey"}))


def signed(issuer: KeyPair, subject: str, name: str, nats: dict[str, Any], expires_seconds: float | None = None) -> str:
    """The claim `nats` about the key `subject`, by `issuer`. `expires_seconds` from now; None: never."""
    now = int(time.time())
    claims: dict[str, Any] = {"iat": now, "iss": issuer.public, "name": name, "sub": subject, "nats": nats}
    if expires_seconds is not None:
        claims["exp"] = now + max(1, round(expires_seconds))
    # The server takes an update of the same second only under another id: it is the hash of the content.
    digest = hashlib.sha256(orjson.dumps(claims, option=orjson.OPT_SORT_KEYS)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    body = f"{_HEADER}.{_base64(orjson.dumps(claims))}"
    return f"{body}.{_base64(issuer.sign(body.encode()))}"


def operator_claim(system_account: str) -> dict[str, Any]:
    return {"type": "operator", "version": 2, "system_account": system_account}


def _exports(crossing: Crossing) -> list[dict[str, Any]]:
    services = [
        {"name": subject, "subject": subject, "type": "service", "response_type": "Singleton"}
        for subject in crossing.services
    ]
    return services + [{"name": subject, "subject": subject, "type": "stream"} for subject in crossing.streams]


def _imports(crossing: Crossing, account: str) -> list[dict[str, Any]]:
    both: Iterable[tuple[str, tuple[str, ...]]] = (("service", crossing.services), ("stream", crossing.streams))
    return [
        {"name": subject, "subject": subject, "account": account, "type": kind}
        for kind, subjects in both
        for subject in subjects
    ]


def _account(**more: Any) -> dict[str, Any]:
    claim: dict[str, Any] = {"type": "account", "version": 2, "limits": {**_ACCOUNT_LIMITS, "wildcards": True}}
    claim["limits"] |= more.pop("limits", {})
    return claim | more


def system_account_claim() -> dict[str, Any]:
    return _account()


def hub_account_claim(exports: Crossing) -> dict[str, Any]:
    """The only account with JetStream. Every exported service answers with one message."""
    return _account(limits=_JETSTREAM_LIMITS, exports=_exports(exports))


def edge_account_claim(imports: Crossing, hub: str) -> dict[str, Any]:
    """A tenant's or a cluster's account: nothing of its own, and `imports` of the account `hub`."""
    return _account(imports=_imports(imports, hub))


def closed_account_claim() -> dict[str, Any]:
    """Of an account that was taken away: it imports nothing, and whoever has a credential of it is put out."""
    return _account(revocations={"*": _FOR_EVER})
