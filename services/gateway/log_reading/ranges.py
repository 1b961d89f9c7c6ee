"""The Range header on a log's bytes. Pure."""

import re

from services.gateway.refusals import RangeUnsatisfiable

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


def parse_range(header: str | None, total: int) -> tuple[int, int] | None:
    """[start, end) of a log of `total` bytes; None when the header is to be ignored: absent, another unit, several
    ranges, or nonsense, as RFC 9110 wants. Raises RangeUnsatisfiable.
    """
    match = _RANGE.fullmatch(header.strip()) if header and header.isascii() else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = int(match[2])
        if length == 0 or total == 0:
            raise RangeUnsatisfiable(total=total, wanted=match[0].strip())
        return max(0, total - length), total
    start = int(match[1])
    last = int(match[2]) if match[2] else total - 1
    if match[2] and last < start:
        return None
    if start >= total:
        raise RangeUnsatisfiable(total=total, wanted=match[0].strip())
    return start, min(last + 1, total)
