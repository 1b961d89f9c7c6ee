"""Server-sent events from bytes. Pure."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

_LINE_END = re.compile(b"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    event: str
    data: str
    id: str | None


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines end with CR, LF or both, and with nothing else: what else `str.splitlines` takes for a line's end may well
    stand in an event's data. An unfinished last line is dropped. Source: WHATWG HTML, 9.2.5.
    """
    waiting: list[bytes] = []
    after_return = False
    async for chunk in chunks:
        rest = chunk.removeprefix(b"\n") if after_return else chunk
        after_return = chunk.endswith(b"\r")
        *ends, last = _LINE_END.split(rest)
        for end in ends:
            yield b"".join((*waiting, end)).decode(errors="replace")
            waiting.clear()
        waiting.append(last)


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[ServerEvent]:
    """Each event once its blank line has come; what is cut off in the middle is dropped. Source: WHATWG HTML, 9.2.6."""
    event, last_id = "", None
    data: list[str] = []
    async for line in lines:
        if not line:
            if data:
                yield ServerEvent(event or "message", "\n".join(data), last_id)
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                event = value
            case "data":
                data.append(value)
            case "id":
                last_id = value
