"""What a part is made of: pairs of a zstd skippable frame (what is said of the bytes) and a zstd frame (the bytes).

So `zstd -dc` of a log's parts in key order is the log. A part that grows gets further pairs at its end.
"""

import struct
from dataclasses import dataclass
from typing import Any

import orjson
import zstandard

from services.log_collector.model import Piece
from shared.errors import OverspillError

# RFC 8878: a decoder passes over frames with these magic numbers; the size of what follows comes next.
_SKIPPABLE = struct.Struct("<II")
_MAGIC = 0x184D2A57
LEVEL = 1


class DamagedPart(OverspillError):
    """The stored part {key} can't be read ({why}); the object store gave back other bytes than it was given."""

    code = "damaged_part"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last chunk's word on the whole log, and whether it was kept. `verified` None: bytes are missing."""

    total: int
    sha256: str | None
    verified: bool | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part, decoded: whole times, whole bytes."""

    start: int
    data: bytes
    times: tuple[tuple[int, int], ...]
    verdict: Verdict | None = None
    written_bytes: int = 0
    """How long the log was on its machine when the part was stored."""

    @property
    def end(self) -> int:
        return self.start + len(self.data)


def encode(pieces: tuple[Piece, ...], verdict: Verdict | None, written_bytes: int = 0) -> bytes:
    """One pair of frames of adjoining pieces."""
    body = b""
    if pieces:
        body = zstandard.ZstdCompressor(level=LEVEL).compress(b"".join(piece.data for piece in pieces))
    said: dict[str, Any] = {
        "frame_bytes": len(body),
        "times": [time for piece in pieces for time in piece.times],
        "verdict": None if verdict is None else [verdict.total, verdict.sha256, verdict.verified],
        "written_bytes": written_bytes,
    }
    head = zstandard.ZstdCompressor(level=LEVEL).compress(orjson.dumps(said))
    return _SKIPPABLE.pack(_MAGIC, len(head)) + head + body


def decode(key: str, start: int, blob: bytes) -> Part:
    """Raises DamagedPart."""
    position, written, data, times, verdict = 0, 0, [], [], None
    inflate = zstandard.ZstdDecompressor()
    try:
        while position < len(blob):
            magic, size = _SKIPPABLE.unpack_from(blob, position)
            if magic != _MAGIC:
                raise DamagedPart(key=key, why=f"no frame at {position}")
            position += _SKIPPABLE.size
            said = orjson.loads(inflate.decompress(blob[position : position + size]))
            position += size
            body = blob[position : position + said["frame_bytes"]]
            position += said["frame_bytes"]
            if body:
                data.append(inflate.decompress(body))
            times += [(at, ms) for at, ms in said["times"]]
            written = max(written, said.get("written_bytes", 0))
            if said["verdict"] is not None:
                verdict = Verdict(*said["verdict"])
    except (zstandard.ZstdError, struct.error, ValueError, KeyError, TypeError) as error:
        raise DamagedPart(key=key, why=str(error)) from error
    return Part(start, b"".join(data), tuple(times), verdict, written)
