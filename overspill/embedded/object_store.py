"""The embedded object store: SeaweedFS in one process, S3 on the loopback alone.

Its inner doors (filer, volume) have HTTP listeners too, and they ask for no S3 signature: they are locked with keys
that only its own parts know, so that neither a web page nor a build step gets around the S3 door.
"""

import asyncio
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from overspill.embedded import ports
from overspill.embedded.binaries import weed
from shared.errors import OverspillError
from shared.ids import random_id
from shared.settings import ObjectSettings

BUCKET = "overspill"
START_SECONDS = 30.0
_GRPC_OFFSET = 10_000
"""SeaweedFS listens for gRPC this far above each HTTP port."""
_PORTS = ("s3", "master", "volume", "filer", "admin")
_LOOK_SECONDS = 0.02
_CONNECT_SECONDS = 3.0


class StoreNotStarted(OverspillError):
    """The object store at {url} takes no object ({why}); look at its log, and at free space on its disk."""

    code = "object_store_not_started"


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """How to start it, and how to reach it."""

    command: list[str]
    environment: dict[str, str]
    directory: Path
    settings: ObjectSettings


def prepare(directory: Path) -> ObjectStore:
    """Choose ports, make what must exist. The credentials stay the same for the directory. Raises NoBinary."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = directory / "objects"
    files.mkdir(exist_ok=True, mode=0o700)
    credentials = _secret(directory / "credentials", f"overspill-{secrets.token_hex(8)}\n{secrets.token_hex(24)}\n")
    _secret(directory / "security.toml", _security())
    remembered = directory / "ports.json"
    chosen = ports.choose(_PORTS, ports.remembered(remembered), companion=_GRPC_OFFSET)
    ports.remember(remembered, chosen)
    key, secret = credentials.read_text().split()
    command = [
        *(str(weed()), "mini", f"-dir={files}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        # It would tell a server of its makers about this installation.
        "-master.telemetry=false",
        *(f"-{name}.port={port}" for name, port in chosen.items()),
    ]
    environment = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        # It reads security.toml from its working directory or from below HOME.
        "HOME": str(directory),
        "PATH": os.environ.get("PATH", os.defpath),
    }
    settings = ObjectSettings(url=f"http://127.0.0.1:{chosen['s3']}", bucket=BUCKET, credentials_file=credentials)
    return ObjectStore(command, environment, directory, settings)


def _secret(path: Path, text: str) -> Path:
    """The file with what it had, or with `text` when it is new; for its owner alone."""
    if not path.is_file():
        beside = path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        beside.replace(path)
    return path


def _security() -> str:
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    return "".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"\nexpires_after_seconds = 60\n' for name in sections)


async def until_it_stores(settings: ObjectSettings, timeout_seconds: float = START_SECONDS) -> None:
    """Returns once an object was stored and read back, as every later user will. Raises StoreNotStarted."""
    from shared.adapters.s3_objects import S3Objects

    deadline = time.monotonic() + timeout_seconds
    key, probe = f"probe/{random_id()}", b"overspill"
    async with S3Objects.connect(settings) as objects:
        while True:
            why = await _refuses_connections(settings.url)
            try:
                if why is None:
                    await objects.ensure_bucket()
                    await objects.put(key, probe)
                    if await objects.get(key) == probe:
                        await objects.delete(key)
                        return
                    why = "it gave back other bytes than it was given"
            except OverspillError as error:
                # Not only unreachable: right after its start it also refuses what it takes a moment later.
                why = str(error)
            if time.monotonic() > deadline:
                raise StoreNotStarted(url=settings.url, why=why)
            # It has no other sign of being ready than that a request succeeds.
            await asyncio.sleep(_LOOK_SECONDS)


async def _refuses_connections(url: str) -> str | None:
    """Why, when it does. An S3 client would try again by itself, with pauses much longer than the start takes."""
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address.hostname, port), _CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        return str(error) or "no connection in time"
    writer.close()
    return None
