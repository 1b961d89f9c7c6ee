"""A job's log to standard output: what is there, or live."""

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from overspill.client import Client
from overspill.complaint import NoSuch
from overspill.following import Wrote, log
from overspill.view.words import harmless
from shared.spec import parse_duration


@dataclass(frozen=True, slots=True)
class Asked:
    job: str
    step: int | None
    since: str | None
    epoch: int | None
    stamps: bool
    as_json: bool
    safe: bool
    """For a terminal: what would steer it is left out."""

    def query(self) -> dict[str, str | int]:
        query: dict[str, str | int] = {}
        if self.step is not None:
            query["step"] = self.step
        if self.since is not None:
            query["since"] = instant(self.since, time.time())
        if self.epoch is not None:
            query["epoch"] = self.epoch
        return query


def instant(text: str, now_seconds: float) -> str:
    """`10m` is ten minutes ago; whatever else is the server's to understand."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return text
    return text if text.replace(".", "").isdigit() else f"{now_seconds - seconds:.3f}"


async def step_number(client: Client, job: str, text: str) -> int:
    """From a number or a name; the first step of that name. Raises NoSuch."""
    if text.isdigit():
        return int(text)
    steps = (await client.job(job))["steps"]
    for step in steps:
        if step["name"] == text:
            return int(step["step"])
    raise NoSuch(f"{job} has no step {text!r}; it has {', '.join(repr(step['name']) for step in steps)}")


async def print_log(client: Client, asked: Asked) -> None:
    query = asked.query() | ({"timestamps": "true"} if asked.stamps else {})
    writer = _Writer(safe=asked.safe)
    async for data in client.read(f"/v1/jobs/{asked.job}/logs", query):
        writer.write(data)
    writer.end()


async def follow_log(client: Client, asked: Asked) -> None:
    """Whole lines, so that steps that run side by side don't mix within one."""
    writer = _Writer(safe=asked.safe)
    lines = _Lines(stamps=asked.stamps)
    async for wrote in log(client, asked.job, **asked.query()):
        if asked.as_json:
            _show_piece(wrote)
        else:
            writer.write(lines.add(wrote))
    writer.write(lines.rest())
    writer.end()


def _show_piece(wrote: Wrote) -> None:
    from overspill.cli.output import show_json_line

    show_json_line(
        {
            "epoch": wrote.epoch,
            "step": wrote.step,
            "offset": wrote.offset,
            "text": wrote.data.decode(errors="replace"),
            "times": wrote.times,
            "missing_bytes": wrote.missing_bytes,
        }
    )


class _Writer:
    def __init__(self, *, safe: bool) -> None:
        self._safe, self._rest = safe, b""

    def write(self, data: bytes) -> None:
        if self._safe:
            # A sequence is never cut: lines are passed on whole.
            data, newline, self._rest = (self._rest + data).rpartition(b"\n")
            data = harmless((data + newline).decode(errors="replace")).encode()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def end(self) -> None:
        if self._rest:
            sys.stdout.buffer.write(harmless(self._rest.decode(errors="replace")).encode() + b"\n")
            sys.stdout.buffer.flush()


class _Lines:
    """Per step: whole lines out, the rest kept."""

    def __init__(self, *, stamps: bool) -> None:
        self._stamps = stamps
        self._rest: dict[int, bytes] = {}
        self._came: dict[int, int] = {}

    def add(self, wrote: Wrote) -> bytes:
        step = wrote.step
        out = b""
        if wrote.missing_bytes:
            out = f"[overspill: {wrote.missing_bytes} bytes of this log were lost with their machine]\n".encode()
        if not self._stamps:
            whole, newline, self._rest[step] = (self._rest.get(step, b"") + wrote.data).rpartition(b"\n")
            return out + whole + newline
        return out + self._stamped(wrote)

    def rest(self) -> bytes:
        return b"".join(self._rest[step] + b"\n" for step in sorted(self._rest) if self._rest[step])

    def _stamped(self, wrote: Wrote) -> bytes:
        out = []
        rest, at = self._rest.get(wrote.step, b""), wrote.offset
        for line in wrote.data.splitlines(keepends=True):
            if not rest:
                rest = self._stamp(wrote, at)
            rest += line
            at += len(line)
            if line.endswith(b"\n"):
                out.append(rest)
                rest = b""
        self._rest[wrote.step] = rest
        return b"".join(out)

    def _stamp(self, wrote: Wrote, offset: int) -> bytes:
        before = [milliseconds for at, milliseconds in wrote.times if at <= offset]
        known = before[-1] if before else self._came.get(wrote.step)
        if wrote.times:
            self._came[wrote.step] = wrote.times[-1][1]
        if known is None:
            return b"-" * 24 + b" "
        when = datetime.fromtimestamp(known / 1000, UTC)
        return f"{when:%Y-%m-%dT%H:%M:%S}.{known % 1000:03}Z ".encode()
