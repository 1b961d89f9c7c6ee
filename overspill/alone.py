"""The platform for one command alone: `overspill up` as a child that ends with us, however we end."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from overspill.complaint import Complaint
from overspill.configuration import Server, default_data, find_server
from runner.entrypoint.build import binary

START_SECONDS = 60.0
END_SECONDS = 40.0
GRACE_MS = 30_000


@asynccontextmanager
async def platform_for_us(environ: Mapping[str, str]) -> AsyncIterator[Server]:
    """A server on the default data directory, ended afterwards. Raises Complaint when it does not come up."""
    data = default_data(environ)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = data / "run.log"
    their_end, our_end = os.pipe()
    with log.open("wb") as output:
        up = [sys.executable, "-m", "overspill", "up", "--data", str(data), "--listen", "127.0.0.1:0", "--json"]
        guard = [str(binary()), "guard", "--lifeline", str(their_end), "--grace", str(GRACE_MS), "--", *up]
        process = await asyncio.create_subprocess_exec(
            *guard,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            pass_fds=[their_end],
            # Ctrl-C is for us: first the job is cancelled, then the platform ends.
            start_new_session=True,
        )
    os.close(their_end)
    try:
        yield await _server(process, log, environ)
    finally:
        os.close(our_end)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()


async def _server(process: asyncio.subprocess.Process, log: Path, environ: Mapping[str, str]) -> Server:
    if process.stdout is None:
        raise Complaint("the embedded platform has no output to read its address from")
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise Complaint(f"the embedded platform is not up after {START_SECONDS:.0f} s; see {log}") from error
    if not line:
        # Somebody else's `up` may have begun at the same moment on the same data.
        server = find_server(environ)
        if server is not None:
            return server
        raise _did_not_start(log)
    return _told(json.loads(line))


def _told(ready: dict[str, str]) -> Server:
    token = Path(ready["token_file"]).read_text().strip()
    return Server(ready["url"].rstrip("/"), token, "the platform this command started")


def _did_not_start(log: Path) -> Complaint:
    said = log.read_text(errors="replace").strip().splitlines()
    last = said[-1].removeprefix("overspill: ") if said else "it said nothing"
    return Complaint(f"the embedded platform did not start: {last} (see {log})")
