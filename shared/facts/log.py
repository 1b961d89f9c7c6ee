"""Chunks of a step's log. The payload is the bytes themselves; what is said of them travels in headers."""

from dataclasses import dataclass

from shared.errors import Poison

CHUNK_LIMIT_BYTES = 65_536
MAX_LOG_BYTES = 10**12
"""No log is that long; whoever says so is wrong."""

OFFSET = "Overspill-Offset"
LAST = "Overspill-Last"
TOTAL = "Overspill-Total"
SHA256 = "Overspill-Sha256"
WRITTEN = "Overspill-Written"
TIMES = "Overspill-Times"


@dataclass(frozen=True, slots=True)
class LogChunk:
    """`data` begins at byte `offset` of the step's log.

    `times` are (offset in the log, unix milliseconds) of arrivals, ascending. The last chunk (its data may be empty)
    carries the whole log's length and sha256. `written_bytes`: how long the log was on its machine when the chunk was
    cut, so that one knows what is missing should the machine be lost; 0 when the runner didn't say.
    """

    offset: int
    data: bytes
    times: tuple[tuple[int, int], ...] = ()
    total: int | None = None
    sha256: str | None = None
    written_bytes: int = 0

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    @property
    def last(self) -> bool:
        return self.total is not None

    def headers(self) -> dict[str, str]:
        headers = {OFFSET: str(self.offset)}
        if self.times:
            headers[TIMES] = " ".join(f"{offset - self.offset}:{ms}" for offset, ms in self.times)
        if self.written_bytes > self.end:
            headers[WRITTEN] = str(self.written_bytes)
        if self.total is not None:
            headers |= {LAST: "1", TOTAL: str(self.total), SHA256: self.sha256 or ""}
        return headers

    @classmethod
    def read(cls, headers: dict[str, str], data: bytes) -> "LogChunk":
        """Raises Poison when the headers are not those of a chunk."""
        try:
            offset = int(headers[OFFSET])
            times = tuple(
                (offset + int(at), int(ms))
                for at, _, ms in (pair.partition(":") for pair in headers.get(TIMES, "").split())
            )
            total = int(headers[TOTAL]) if LAST in headers else None
            written = int(headers.get(WRITTEN, 0))
        except (KeyError, ValueError) as error:
            raise Poison(why=f"log chunk headers: {error!r}") from error
        if offset < 0 or len(data) > CHUNK_LIMIT_BYTES or (total is not None and total != offset + len(data)):
            raise Poison(why=f"log chunk at {offset} of {len(data)} bytes with total {total}")
        if max(offset, written) > MAX_LOG_BYTES or written < 0:
            raise Poison(why=f"log chunk at {offset} of {written} bytes: no log is that long")
        return cls(offset, data, times, total, headers.get(SHA256) or None, written)


def missing_notice(missing_bytes: int, *, at_least: bool = False, expired: bool = False) -> str:
    """What a person reads in place of bytes that nobody has. `at_least`: more may be missing, nobody knows how much.
    `expired`: no machine was lost, the bytes are no longer kept.
    """
    count = f"{'at least ' if at_least else ''}{missing_bytes} bytes of this log"
    if not missing_bytes:
        count = "an unknown number of bytes at the end of this log"
    return f"[overspill: {count} {'are no longer kept' if expired else 'were lost with their machine'}]"
