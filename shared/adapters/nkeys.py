"""NATS' keys: ed25519 pairs whose text says what they are for (`O…` operator, `A…` account, `U…` user; seeds `S…`)."""

import base64
import binascii
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

import nacl.signing

from shared.errors import OverspillError

_SEED = 18 << 3
_KEY_BYTES = 32


class BadSeed(OverspillError):
    """This is no NATS seed ({why}); restore the identity directory from a copy."""

    code = "bad_seed"


class KeyKind(IntEnum):
    """The prefix byte of a public key."""

    ACCOUNT = 0
    OPERATOR = 14 << 3
    USER = 20 << 3


def _text(raw: bytes) -> str:
    """Base32 with a CRC-16 (XMODEM, little endian) behind the bytes, as NATS writes every key."""
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key that signs. Its seed never shows in a repr."""

    kind: KeyKind
    _key: nacl.signing.SigningKey = field(repr=False)
    """Made once: each making works the public key out anew, which costs more than to sign."""

    @classmethod
    def generate(cls, kind: KeyKind) -> Self:
        return cls(kind, nacl.signing.SigningKey.generate())

    @classmethod
    def from_seed(cls, text: str) -> Self:
        """Raises BadSeed."""
        try:
            raw = base64.b32decode(text + "=" * (-len(text) % 8))
        except binascii.Error as error:
            raise BadSeed(why="not base32") from error
        if len(raw) != _KEY_BYTES + 4 or raw[0] & 0xF8 != _SEED or _text(raw[:-2]) != text:
            raise BadSeed(why="damaged or cut")
        # The kind's byte is spread over the two prefix bytes: five bits of the seed's prefix come first.
        return cls(KeyKind((raw[0] & 7) << 5 | raw[1] >> 3), nacl.signing.SigningKey(raw[2:-2]))

    @property
    def seed(self) -> str:
        return _text(bytes((_SEED | self.kind >> 5, (self.kind & 31) << 3)) + bytes(self._key))

    @property
    def public(self) -> str:
        return _text(bytes((self.kind,)) + bytes(self._key.verify_key))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data).signature
