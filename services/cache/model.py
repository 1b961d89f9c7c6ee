"""Keys of the bucket, and what is known of when an object goes."""

from dataclasses import dataclass

from shared.errors import Poison
from shared.ids import token_from

DUE_STEP_SECONDS = 3600
_DUE_DIGITS = 12


def tenant_prefix(tenant: str) -> str:
    return f"t/{tenant}/"


def source_key(tenant: str, sha256: str) -> str:
    return f"{tenant_prefix(tenant)}sources/{sha256}.tar.gz"


def used_key(tenant: str, sha256: str) -> str:
    """An empty object: it was changed when the source was last used."""
    return f"{tenant_prefix(tenant)}used/{sha256}"


def artifacts_prefix(tenant: str, job: str) -> str:
    return f"{tenant_prefix(tenant)}artifacts/{job}/"


def artifact_key(tenant: str, job: str, epoch: int, name: str) -> str:
    return f"{artifacts_prefix(tenant, job)}{epoch}/{token_from(name)}.tar.gz"


def logs_prefix(tenant: str) -> str:
    return f"{tenant_prefix(tenant)}logs/"


EXPIRY_PREFIX = "expiry/"


@dataclass(frozen=True, slots=True)
class Marker:
    """At `due_unix` somebody looks whether `key` is to go; it is kept `keep_seconds` from its last change or use."""

    key: str
    due_unix: int
    keep_seconds: float = 0.0

    @classmethod
    def after(cls, key: str, since_unix: float, keep_seconds: float) -> "Marker":
        """Rounded up to the hour, so that asking twice makes one marker."""
        due = int(since_unix + keep_seconds) // DUE_STEP_SECONDS * DUE_STEP_SECONDS + DUE_STEP_SECONDS
        return cls(key, due, keep_seconds)

    @property
    def path(self) -> str:
        return f"{EXPIRY_PREFIX}{self.due_unix:0{_DUE_DIGITS}d}/{self.key}"

    def body(self) -> bytes:
        return f"{self.keep_seconds:.0f}".encode()

    @classmethod
    def read(cls, path: str, body: bytes = b"0") -> "Marker":
        """Raises Poison when it is no marker."""
        due, _, key = path.removeprefix(EXPIRY_PREFIX).partition("/")
        try:
            return cls(key, int(due), float(body))
        except ValueError as error:
            raise Poison(why=f"{path!r} is no expiry marker") from error


def used_key_of(key: str) -> str | None:
    """Where the last use of this object is told; None when use does not lengthen its life."""
    match key.split("/"):
        case ["t", tenant, "sources", file]:
            return used_key(tenant, file.removesuffix(".tar.gz"))
    return None
