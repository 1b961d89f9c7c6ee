"""Who is who on the bus: the operator's keys in a directory, the accounts they vouch for, and credentials cut from
parties.

NATS operator mode. One operator, one system account, the hub's account with JetStream, and accounts without it, which
import only their own subjects: one for each cluster, and two for each tenant (its services, its attempts).
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import orjson

from shared.adapters.nats_jwt import (
    closed_account_claim,
    edge_account_claim,
    hub_account_claim,
    operator_claim,
    signed,
    system_account_claim,
)
from shared.adapters.nats_permissions import user_claim
from shared.adapters.nkeys import KeyKind, KeyPair
from shared.credential import Credential
from shared.errors import OverspillError, Rejected
from shared.ids import is_token
from shared.parties import EXPORTS, Crossing, Party, attempts_imports, cluster_imports, tenant_imports

_FIRST = ("system", "hub", "operator")
"""The seeds every identity has. The operator's is written last: it is what says that the directory is whole."""
Kind = Literal["tenant", "attempts", "cluster"]
_FOLDER: dict[Kind, str] = {"tenant": "tenants", "attempts": "attempts", "cluster": "clusters"}
_OF_TENANT: tuple[Kind, Kind] = ("tenant", "attempts")


class NoIdentity(OverspillError):
    """There is no bus identity in {directory}; make one with `overspill identity create --identity {directory}`."""

    code = "no_identity"


class NoAccount(Rejected):
    """There is no bus account of the {kind} {name}; a tenant or cluster has one once it was added."""

    code = "no_account"
    status = 404


class BadName(Rejected):
    """{name!r} can't name a bus account; use 1 to 40 of a-z, 0-9 and -."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the server is told of it."""

    name: str
    public: str
    jwt: str


class Identity:
    """The directory holds every secret of the bus (mode 0700, files 0600). Several processes may use it at once."""

    def __init__(self, directory: Path) -> None:
        """Use `create`, `load` or `open`."""
        self._directory = directory
        self._keys: dict[str, KeyPair] = {}

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make what is missing and keep what is there: of two creators at once both hold the same identity."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        identity = cls(directory)
        with identity._locked():
            for name in _FIRST:
                identity._make(name, KeyKind.OPERATOR if name == "operator" else KeyKind.ACCOUNT)
        return identity

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Raises NoIdentity, BadSeed."""
        identity = cls(directory)
        if not identity._path("operator").is_file():
            raise NoIdentity(directory=directory)
        for name in _FIRST:
            identity._key(name)
        return identity

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Load it, or create it if there is none."""
        try:
            return cls.load(directory)
        except NoIdentity:
            return cls.create(directory)

    @property
    def directory(self) -> Path:
        return self._directory

    # Accounts

    def add_tenant(self, name: str) -> list[Account]:
        """Idempotent. A running server learns of it by `shared.adapters.accounts`. Raises BadName."""
        _check(name)
        with self._locked():
            for kind in _OF_TENANT:
                self._make(f"{_FOLDER[kind]}/{name}", KeyKind.ACCOUNT)
        return [self.account(kind, name) for kind in _OF_TENANT]

    def add_cluster(self, name: str, tenants: tuple[str, ...] | None = None) -> Account:
        """Idempotent; another `tenants` (None: all) replaces the former. Raises BadName."""
        for each in (name, *(tenants or ())):
            _check(each)
        with self._locked():
            folder = self._directory / _FOLDER["cluster"]
            folder.mkdir(mode=0o700, exist_ok=True)
            _write(folder / f"{name}.json", orjson.dumps({"tenants": tenants}))
            self._make(f"{_FOLDER['cluster']}/{name}", KeyKind.ACCOUNT)
        return self.account("cluster", name)

    def closed(self, kind: Kind, name: str) -> Account:
        """The account as a server is to know it before it is forgotten. Raises NoAccount."""
        return self._account(f"{kind}-{name}", self._account_key(kind, name), closed_account_claim())

    def forget(self, kind: Kind, name: str) -> None:
        """Idempotent. Added again, it is another account, which the credentials of this one do not open."""
        with self._locked():
            self._path(f"{_FOLDER[kind]}/{name}").unlink(missing_ok=True)
            self._keys.pop(f"{_FOLDER[kind]}/{name}", None)

    def account(self, kind: Kind, name: str) -> Account:
        """Raises NoAccount."""
        key = self._account_key(kind, name)
        imports = self._imports(kind, name)
        return self._account(f"{kind}-{name}", key, edge_account_claim(imports, self._key("hub").public))

    def accounts(self) -> list[Account]:
        """All of them, as they are to be known by a server that starts."""
        return [
            self._account("system", self._key("system"), system_account_claim()),
            self._account("hub", self._key("hub"), hub_account_claim(EXPORTS)),
            *(self.account(kind, name) for kind in _FOLDER for name in self.names(kind)),
        ]

    def names(self, kind: Kind) -> list[str]:
        """The tenants or clusters that have an account."""
        return sorted(path.stem for path in (self._directory / _FOLDER[kind]).glob("*.seed"))

    @property
    def system_account(self) -> str:
        return self._key("system").public

    def operator_jwt(self) -> str:
        operator = self._key("operator")
        return signed(operator, operator.public, "overspill", operator_claim(self.system_account))

    # Credentials

    def credential(
        self,
        party: Party,
        *,
        tenant: str | None = None,
        cluster: str | None = None,
        expires_seconds: float | None = None,
    ) -> Credential:
        """What allows exactly what `party` says, in the account it belongs to. Signing only: about a millisecond.

        Raises NoAccount for a tenant or cluster that was never added.
        """
        if party.account == "hub":
            key = self._key("hub")
        else:
            key = self._account_key(party.account, (cluster if party.account == "cluster" else tenant) or "")
        return _user(key, party.name, user_claim(party), expires_seconds)

    def system_credential(self) -> Credential:
        """May tell the server of accounts, nothing else."""
        claim = {
            "type": "user",
            "version": 2,
            "pub": {"allow": ["$SYS.REQ.CLAIMS.UPDATE"]},
            "sub": {"allow": ["_INBOX_accounts.>"]},
            "subs": -1,
            "data": -1,
            "payload": -1,
        }
        return _user(self._key("system"), "accounts", claim, None)

    # Keys and files

    def _account(self, name: str, key: KeyPair, claim: dict[str, object]) -> Account:
        return Account(name, key.public, signed(self._key("operator"), key.public, name, claim))

    def _account_key(self, kind: Kind, name: str) -> KeyPair:
        try:
            # Read anew: another process may have forgotten it and made another.
            seed = self._path(f"{_FOLDER[kind]}/{name}").read_text().strip() if is_token(name) else ""
        except FileNotFoundError:
            seed = ""
        if not seed:
            raise NoAccount(kind=kind, name=name)
        known = self._keys.get(f"{_FOLDER[kind]}/{name}")
        if known is None or known.seed != seed:
            known = self._keys[f"{_FOLDER[kind]}/{name}"] = KeyPair.from_seed(seed)
        return known

    def _imports(self, kind: Kind, name: str) -> Crossing:
        match kind:
            case "tenant":
                return tenant_imports(name)
            case "attempts":
                return attempts_imports(name)
            case "cluster":
                return cluster_imports(name, self._tenants_of(name))

    def _tenants_of(self, cluster: str) -> tuple[str, ...] | None:
        told = orjson.loads((self._directory / "clusters" / f"{cluster}.json").read_bytes())["tenants"]
        return None if told is None else tuple(told)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.seed"

    def _key(self, name: str) -> KeyPair:
        if name not in self._keys:
            self._keys[name] = KeyPair.from_seed(self._path(name).read_text().strip())
        return self._keys[name]

    def _make(self, name: str, kind: KeyKind) -> None:
        path = self._path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.is_file():
            _write(path, f"{KeyPair.generate(kind).seed}\n".encode())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._directory / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _check(name: str) -> None:
    if not is_token(name):
        raise BadName(name=name)


def _user(account: KeyPair, name: str, claim: dict[str, object], expires_seconds: float | None) -> Credential:
    user = KeyPair.generate(KeyKind.USER)
    return Credential(signed(account, user.public, name, claim, expires_seconds), user.seed, name)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, readable by its owner alone. Callers hold the lock."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
