"""Server-sent events from lines. Pure."""

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    event: str
    data: str
    id: str | None


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
