"""Server-sent events: form, headers, and the ids clients resume from."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Send

from services.gateway.refusals import BadRequest

ENDING_SECONDS = 0.5
"""Of a stream that ends by itself between two events."""
KEEP_ALIVE = b": still here\n\n"
_LOG_ID = re.compile(r"(\d{1,3}):((?:\d{1,3}=\d{1,18})(?:,\d{1,3}=\d{1,18})*)?")
MAX_EVENT_ID_CHARACTERS = 8000


def sse(event: str, data: Any, event_id: str | int | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id is not None else ""
    return head.encode() + b"event: " + event.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


class EventStream(StreamingResponse):
    """Ends when the gateway does, whatever it waits for; its client comes again with the last id it saw."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], closed: asyncio.Event) -> None:
        # A proxy that buffers would make live into late.
        super().__init__(content, headers={"X-Accel-Buffering": "no"})
        self._closed = closed

    async def stream_response(self, send: Send) -> None:
        streaming = asyncio.ensure_future(super().stream_response(send))
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({streaming, closing}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({streaming}, timeout=ENDING_SECONDS)
            if streaming.done():
                streaming.result()
                return
        finally:
            streaming.cancel()
            closing.cancel()
            await asyncio.wait({streaming, closing})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def resume_seq(last_event_id: str | None) -> int:
    """Raises BadRequest."""
    if last_event_id is None or last_event_id == "":
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 18):  # noqa: PLR2004
        raise BadRequest(why="Last-Event-ID is none of this stream's: give the `id` of the last event you saw")
    return int(last_event_id)


def log_id(epoch: int, offsets: Mapping[int, int]) -> str:
    """`<epoch>:<step>=<offset>,…`: how far every step's log was shown."""
    return f"{epoch}:" + ",".join(f"{step}={offset}" for step, offset in sorted(offsets.items()) if offset)


def resume_log(last_event_id: str | None) -> tuple[int, dict[int, int]] | None:
    """(epoch, offsets), None at the beginning. Raises BadRequest."""
    if last_event_id is None or last_event_id == "":
        return None
    match = _LOG_ID.fullmatch(last_event_id) if len(last_event_id) <= MAX_EVENT_ID_CHARACTERS else None
    if match is None or not last_event_id.isascii():
        raise BadRequest(why="Last-Event-ID is none of this log's: give the `id` of the last event you saw")
    pairs = (pair.partition("=") for pair in (match[2] or "").split(",") if pair)
    return int(match[1]), {int(step): int(offset) for step, _, offset in pairs}


def bytes_field(data: bytes) -> dict[str, str]:
    """`text` when the bytes are UTF-8, else `base64`."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
