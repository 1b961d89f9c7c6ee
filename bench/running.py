"""`overspill up`, as a user starts it, for the figures that are about all of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from bench.measuring import children

ROOT = Path(__file__).parents[1]


@dataclass
class Platform:
    data: Path
    ready: dict[str, Any]
    pid: int

    @property
    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.ready["url"], headers=headers, timeout=60)

    def processes(self) -> list[int]:
        return children(self.pid)


@asynccontextmanager
async def up(home: Path) -> AsyncIterator[Platform]:
    """Ready when entered, gone when left; the data stays."""
    home.mkdir(parents=True, exist_ok=True)
    data = home / "data"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSPILL_", "OTEL_"))}
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    with (home / "up.err").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "overspill", "up", "--data", str(data), "--listen", "127.0.0.1:0", "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=kept | {"HOME": str(home), "XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise SystemExit(f"up did not come up: {(home / 'up.err').read_text()}")
        yield Platform(data, orjson.loads(line), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)


async def ended(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """The job's picture once it ended. Raises SystemExit when it did not succeed: such a figure is void."""
    while True:
        view: dict[str, Any] = (await client.get(f"/v1/jobs/{job}")).raise_for_status().json()
        if view["state"] not in ("queued", "placed", "starting", "running"):
            if view["state"] != "succeeded":
                raise SystemExit(f"job {job} {view['state']}: {view.get('message')}")
            return view
        await asyncio.sleep(0.05)


def unix_seconds(instant: str) -> float:
    """What the API says, which is milliseconds sharp."""
    return datetime.fromisoformat(instant).timestamp()
