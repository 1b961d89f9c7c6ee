"""Tenants and clusters join while the server runs: their accounts are pushed by the system account."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from shared.adapters.identity import Account, Identity, Kind, NoAccount
from shared.adapters.nats_bus import NatsBus
from shared.errors import OverspillError

PUSH_SECONDS = 5.0


class AccountRefused(OverspillError):
    """The bus server did not take the account {name} ({why}); was it started with this identity's configuration?"""

    code = "account_refused"


class Accounts:
    """What is added here is known by the server, and by every server started later with this identity."""

    def __init__(self, identity: Identity, bus: NatsBus) -> None:
        """Use `Accounts.connect`."""
        self._identity = identity
        self._bus = bus

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, identity: Identity) -> AsyncIterator["Accounts"]:
        """Raises Unavailable."""
        async with NatsBus.connect(url, identity.system_credential(), name="accounts") as bus:
            yield cls(identity, bus)

    async def add_tenant(self, name: str) -> None:
        """Idempotent. Raises BadName, Unavailable, AccountRefused."""
        for account in self._identity.add_tenant(name):
            await self._push(account)

    async def add_cluster(self, name: str, tenants: tuple[str, ...] | None = None) -> None:
        """Idempotent; `tenants` None: it serves all. Raises BadName, Unavailable, AccountRefused."""
        await self._push(self._identity.add_cluster(name, tenants))

    async def remove(self, kind: Kind, name: str) -> None:
        """Its credentials open nothing from now on, and who is connected with one is put out. Idempotent. Raises
        Unavailable, AccountRefused.
        """
        try:
            closed = self._identity.closed(kind, name)
        except NoAccount:
            return
        await self._push(closed)
        self._identity.forget(kind, name)

    async def _push(self, account: Account) -> None:
        answer = await self._bus.request("$SYS.REQ.CLAIMS.UPDATE", account.jwt.encode(), timeout_seconds=PUSH_SECONDS)
        told = orjson.loads(answer.data)
        if "error" in told:
            raise AccountRefused(name=account.name, why=told["error"].get("description", "no reason given"))
