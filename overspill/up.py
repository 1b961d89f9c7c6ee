"""`overspill up`: run the platform until a signal; say where it is, and why it ended."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import typer

from overspill.configuration import default_data
from overspill.embedded.supervise import Children
from overspill.platform import BadUsage, Options, Ready, serve
from shared.adapters.nats_config import read_sync
from shared.errors import OverspillError
from shared.run import configure_logging, first_error
from shared.spec import parse_bytes

EXIT_USAGE, EXIT_PLATFORM = 2, 3
LEAST_STORE_BYTES = 16 * 2**20


def up_command(
    *,
    data: Path | None,
    nats_url: str | None,
    identity: Path | None,
    s3_url: str | None,
    s3_credentials: Path | None,
    listen: str,
    sync: str,
    store_size: str | None,
    as_json: bool,
) -> NoReturn:
    """What the command line calls; ends with `typer.Exit`."""
    try:
        options = read_options(data or default_data(os.environ), nats_url, identity, s3_url, s3_credentials, listen)
        options = replace(options, **read_storing(sync, store_size))
    except BadUsage as error:
        typer.echo(f"overspill: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    raise typer.Exit(up(options, _say_json if as_json else _say))


def read_options(
    data: Path,
    nats_url: str | None = None,
    identity: Path | None = None,
    s3_url: str | None = None,
    s3_credentials: Path | None = None,
    listen: str = "127.0.0.1:0",
) -> Options:
    """Raises BadUsage."""
    if (nats_url is None) != (identity is None):
        raise BadUsage(why="--nats-url and --identity go together: the bus must run with that identity's configuration")
    if (s3_url is None) != (s3_credentials is None):
        raise BadUsage(why="--s3-url and --s3-credentials go together: give the file with the key id and the key")
    if s3_credentials is not None and not s3_credentials.is_file():
        raise BadUsage(why=f"--s3-credentials: there is no file {s3_credentials}")
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the largest port
        raise BadUsage(why=f"--listen {listen!r} is no address; give host:port, as 127.0.0.1:8080")
    return Options(
        data.expanduser().absolute(),
        nats_url,
        identity.absolute() if identity else None,
        s3_url,
        s3_credentials.absolute() if s3_credentials else None,
        host.strip("[]"),
        int(port),
    )


def read_storing(sync: str, store_size: str | None) -> dict[str, Any]:
    """What `--sync` and `--bus-store` say, as fields of Options. Raises BadUsage."""
    try:
        interval = read_sync(sync)
    except ValueError as error:
        raise BadUsage(why=f"--sync {sync!r}: {error}") from error
    try:
        size = None if store_size is None else int(parse_bytes(store_size))
    except ValueError as error:
        raise BadUsage(why=f"--bus-store {store_size!r}: {error}") from error
    if size is not None and size < LEAST_STORE_BYTES:
        raise BadUsage(why=f"--bus-store {store_size!r}: give {LEAST_STORE_BYTES // 2**20}Mi or more")
    return {"sync_interval_seconds": interval, "store_bytes": size}


def up(options: Options, say: Callable[[Ready], None]) -> int:
    """Runs until SIGINT or SIGTERM: 0 after a signal, 2 for bad usage, 3 when a part failed (one line says which)."""
    # Its stdout is for what it is asked for; what it has to warn of goes to stderr.
    configure_logging("up", logging.WARNING)
    try:
        asyncio.run(_until_signalled(options, say))
    except (OverspillError, BaseExceptionGroup) as error:
        cause = first_error(error)
        if not isinstance(cause, OverspillError):
            raise
        typer.echo(f"overspill: {cause}", err=True)
        return EXIT_USAGE if isinstance(cause, BadUsage) else EXIT_PLATFORM
    return 0


async def _until_signalled(options: Options, say: Callable[[Ready], None]) -> None:
    """The first signal ends everything in order, the second kills what is left."""
    started: list[Children] = []
    serving = asyncio.ensure_future(serve(options, say, started.append))
    ending = False

    def on_signal() -> None:
        nonlocal ending
        if ending:
            for children in started:
                children.kill()
        else:
            ending = True
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        await serving
    except asyncio.CancelledError:
        if not ending:
            raise


def _say_json(ready: Ready) -> None:
    sys.stdout.write(json.dumps(ready.told()) + "\n")
    sys.stdout.flush()


def _say(ready: Ready) -> None:
    typer.echo(
        f"Overspill is ready after {ready.seconds:.1f} s; Ctrl-C ends it.\n\n"
        f"  API     {ready.url}   (token in {ready.token_file})\n"
        f"  bus     {ready.nats_url}   (services: {ready.service_credential_file})\n"
        f"  S3      {ready.s3_url}\n"
        f"  data    {ready.data}\n\n"
        "In another terminal:  overspill run"
    )
