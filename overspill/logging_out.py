"""A job's log to standard output: what is there, or live."""

import base64
import sys
import time
from dataclasses import dataclass

from overspill.cli.output import show_json_line
from overspill.client import Client
from overspill.complaint import NoSuch
from overspill.following import Wrote, log
from overspill.view.log_lines import Harmless, OneLog, SeveralLogs, Stamps
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
    writer = _writer(safe=asked.safe)
    async for data in client.read(f"/v1/jobs/{asked.job}/logs", query):
        writer.write(data)
    writer.end()


async def follow_log(client: Client, asked: Asked) -> None:
    """One step's bytes as they come; of a whole job the lines, so that steps that run side by side don't mix."""
    if asked.as_json:
        async for wrote in log(client, asked.job, **asked.query()):
            show_json_line(_piece(wrote))
        return
    stamps = Stamps if asked.stamps else None
    lines = SeveralLogs(stamps) if asked.step is None else OneLog(stamps() if stamps else None)
    writer = _writer(safe=asked.safe)
    async for wrote in log(client, asked.job, **asked.query()):
        writer.write(lines.add(wrote))
    writer.write(lines.rest())
    writer.end()


def _piece(wrote: Wrote) -> dict[str, object]:
    """As the API tells it: `text`, or `base64` of what is no UTF-8."""
    try:
        data = {"text": wrote.data.decode()}
    except UnicodeDecodeError:
        data = {"base64": base64.b64encode(wrote.data).decode()}
    return {
        "epoch": wrote.epoch,
        "step": wrote.step,
        "offset": wrote.offset,
        **data,
        "times": wrote.times,
        "missing_bytes": wrote.missing_bytes,
        "missing_at_least": wrote.missing_at_least,
        "notice": wrote.notice,
    }


class _Writer:
    """To standard output, byte for byte."""

    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def end(self) -> None:
        """Nothing was kept back."""


class _TerminalWriter(_Writer):
    def __init__(self) -> None:
        self._harmless = Harmless()

    def write(self, data: bytes) -> None:
        super().write(self._harmless.add(data))

    def end(self) -> None:
        super().write(self._harmless.end())


def _writer(*, safe: bool) -> _Writer:
    return _TerminalWriter() if safe else _Writer()
