"""Which collector reads which partition. Pure.

Nothing has to be locked: while two believe to own a partition they write the same bytes twice, under keys that can't
harm each other (see the README). So ownership follows from who is alive, and changes hands without a word between them.
"""

from hashlib import blake2b

from shared.flow import LOG_PARTITIONS

_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


def partition_of(tenant: str, job: str) -> int:
    """As the bus computes `partition(LOG_PARTITIONS,1,2)`: FNV-1a, 32 bits, of the tokens side by side."""
    value = _FNV_OFFSET
    for byte in (tenant + job).encode():
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value % LOG_PARTITIONS


def owner_of(partition: int, members: frozenset[str]) -> str | None:
    """Rendezvous hashing (Thaler, Ravishankar 1998): when a member goes, only its own partitions move."""
    return max(members, key=lambda member: (_weight(partition, member), member), default=None)


def _weight(partition: int, member: str) -> bytes:
    return blake2b(f"{partition}/{member}".encode(), digest_size=8).digest()


def owned_by(member: str, members: frozenset[str]) -> frozenset[int]:
    return frozenset(partition for partition in range(LOG_PARTITIONS) if owner_of(partition, members) == member)
