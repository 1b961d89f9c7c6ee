"""An artifact into a directory, checked."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

from overspill.client import Client
from overspill.complaint import Complaint

_UNSAFE = re.compile(r"[/\\\0-\x1f\x7f]")


def file_name(artifact: str) -> str:
    """Of an artifact's file: any name becomes one that stays in its directory."""
    return _UNSAFE.sub("_", artifact).lstrip(".") or "artifact"


async def fetch(client: Client, job: str, artifact: dict[str, Any], directory: Path) -> Path:
    """Raises Complaint when what came is not what was stored."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    target = directory / f"{file_name(artifact['name'])}.tar.gz"
    await client.download(job, artifact["name"], target)
    if await asyncio.to_thread(_sha256, target) != artifact["sha256"]:
        target.unlink()
        raise Complaint(f"{target.name} did not arrive as it was stored; download it again")
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
