"""The one place every byte of a step passes on its way out: secrets become asterisks of the same length, so offsets
stay true.
"""

from collections.abc import Sequence


class Mask:
    """Covers `secrets` wherever they stand, also across the borders of what it is fed."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        self._secrets = tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True))
        self._reach = max((len(secret) for secret in self._secrets), default=1) - 1

    def cover(self, data: bytes) -> bytes:
        """The whole of `data`, covered."""
        for secret in self._secrets:
            if secret in data:
                data = data.replace(secret, b"*" * len(secret))
        return data

    def cover_open(self, data: bytes) -> bytes:
        """`data` covered, without the end that may be the beginning of a secret: feed that again with what follows."""
        covered = self.cover(data)
        return covered[: len(covered) - self._undecided(covered)]

    def cover_text(self, text: str) -> str:
        return self.cover(text.encode(errors="surrogateescape")).decode(errors="replace")

    def _undecided(self, data: bytes) -> int:
        for length in range(min(self._reach, len(data)), 0, -1):
            if any(secret.startswith(data[-length:]) for secret in self._secrets):
                return length
        return 0
