"""From the configuration to a connected client, and from what a person types to a job's id."""

import os
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from overspill.cli.output import drop_output
from overspill.complaint import Complaint, Exit, NoSuch

if TYPE_CHECKING:
    from overspill.client import Client
    from overspill.configuration import Server

_WHOLE = re.compile(r"[a-z2-7]{26}")
LAST = ("last", "-")
_PAGE, _PAGES = 200, 10


def ask(work: "Callable[[Client], Awaitable[int | None]]") -> None:
    """Run `work` with the configured server; ends the command with the code it returns."""
    import asyncio

    from overspill.client import Client

    server = configured()

    async def main() -> int:
        try:
            async with Client(server) as client:
                return await work(client) or 0
        except BrokenPipeError:
            # Whoever read our output has seen enough.
            drop_output()
            return 0

    raise typer.Exit(asyncio.run(main()))


def configured() -> "Server":
    """Raises Complaint when there is none."""
    from overspill.configuration import find_server

    server = find_server(os.environ)
    if server is None:
        raise Complaint(
            "no server is configured and none runs here: start one with `overspill up`, or set OVERSPILL_URL and "
            "OVERSPILL_TOKEN_FILE"
        )
    return server


async def job_id(client: "Client", text: str) -> str:
    """Raises NoSuch, Complaint when several jobs begin so."""
    if _WHOLE.fullmatch(text):
        return text
    if text in LAST:
        page = await client.jobs({"limit": 1})
        if not page["jobs"]:
            raise NoSuch("there is no job yet: submit one with `overspill run`")
        return str(page["jobs"][0]["id"])
    return await _by_beginning(client, text.lower())


async def _by_beginning(client: "Client", text: str) -> str:
    found: list[str] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.jobs({"limit": _PAGE, **({"cursor": cursor} if cursor else {})})
        found.extend(job["id"] for job in page["jobs"] if job["id"].startswith(text))
        cursor = page["next_cursor"]
        if cursor is None or len(found) > 1:
            break
    if not text or not found:
        raise NoSuch(f"no job's id begins with {text!r} (of the newest {_PAGE * _PAGES}); see `overspill jobs`")
    if len(found) > 1:
        raise Complaint(f"several jobs begin with {text!r}: {', '.join(found[:5])}; type more of it", Exit.USAGE)
    return found[0]
