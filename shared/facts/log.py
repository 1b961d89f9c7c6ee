"""Chunks of a step's log. The payload is the bytes themselves; what is said of them travels in headers."""

from dataclasses import dataclass

from shared.errors import Poison

CHUNK_LIMIT_BYTES = 65_536

OFFSET = "Overspill-Offset"
LAST = "Overspill-Last"
TOTAL = "Overspill-Total"
SHA256 = "Overspill-Sha256"
TIMES = "Overspill-Times"


@dataclass(frozen=True, slots=True)
class LogChunk:
    """`data` begins at byte `offset` of the step's log.

    `times` are (offset in the log, unix milliseconds) of arrivals, ascending. The last chunk (its data may be empty)
    carries the whole log's length and sha256.
    """

    offset: int
    data: bytes
    times: tuple[tuple[int, int], ...] = ()
    total: int | None = None
    sha256: str | None = None

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
        except (KeyError, ValueError) as error:
            raise Poison(why=f"log chunk headers: {error!r}") from error
        if offset < 0 or len(data) > CHUNK_LIMIT_BYTES or (total is not None and total != offset + len(data)):
            raise Poison(why=f"log chunk at {offset} of {len(data)} bytes with total {total}")
        return cls(offset, data, times, total, headers.get(SHA256) or None)
