"""The text of nats-server's configuration for an identity."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.adapters.identity import Identity
from shared.flow import STREAMS
from shared.spec import parse_duration

_HEADERS_BYTES = 65_536
MAX_PAYLOAD_BYTES = max(stream.max_message_bytes for stream in STREAMS) + _HEADERS_BYTES
"""The largest message a stream takes, and room for its headers."""
SYNC_INTERVAL_SECONDS = 1
"""How long an acknowledged message may be only in the kernel's memory.

A killed server loses nothing whatever this is; a machine that loses power loses at most this second, where the
server's own default of two minutes loses two minutes. What `always` costs is in docs/reliability.md."""
MAX_FILE_STORE = 2**50
"""None of ours. The server's default is three quarters of what is free when it starts, so a restart could refuse what
fitted before; and one smaller than what streams reserve lets no stream be changed any more, not even made smaller. What
streams may take is in their shares, and the doors close before the rest is used up (services/gateway/room.py)."""
LARGEST_SYNC_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Routes:
    """How the servers of one bus find each other: `addresses` (host:port) are all of them.

    Who knows `password`, which is of characters that need no escape in a URL, may be one.
    """

    addresses: Sequence[str]
    password: str
    port: int = 6222


def read_sync(text: str) -> float | None:
    """Seconds from `always` (None: before each acknowledgement), `1s`, `250ms`. Raises ValueError."""
    if text == "always":
        return None
    seconds = float(parse_duration(text))
    if not 0 < seconds <= LARGEST_SYNC_SECONDS:
        raise ValueError(f"give always, or at most {LARGEST_SYNC_SECONDS:.0f}s")
    return seconds


def server_config(
    identity: Identity,
    directory: Path,
    *,
    host: str = "127.0.0.1",
    port: int = -1,
    sync_interval_seconds: float | None = SYNC_INTERVAL_SECONDS,
    monitor: str | None = None,
    server_name: str = "overspill",
    routes: Routes | None = None,
) -> str:
    """`directory` holds streams, account JWTs and the ports file. `port` -1: a free one, told in the ports file.

    `sync_interval_seconds` None: every message before its acknowledgement. `monitor`: address of the HTTP monitoring,
    which knows no credentials; None: off. `server_name` may be `$NAME`, of the server's environment; with `routes` each
    server needs another.
    """
    preload = "\n".join(f"  {account.public}: {account.jwt}" for account in identity.accounts())
    sync = "always" if sync_interval_seconds is None else orjson.dumps(f"{sync_interval_seconds}s").decode()
    lines = [
        f"server_name: {server_name if server_name.startswith('$') else _text(server_name)}",
        f"host: {_text(host)}",
        f"port: {port}",
        f"ports_file_dir: {_text(directory)}",
        f"http: {_text(monitor)}" if monitor else "",
        *(_cluster(routes) if routes else ()),
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        "max_control_line: 4096",
        'write_deadline: "10s"',
        'lame_duck_duration: "30s"',
        "jetstream {",
        f"  store_dir: {_text(directory / 'jetstream')}",
        f"  sync_interval: {sync}",
        f"  max_file_store: {MAX_FILE_STORE}",
        "}",
        f"operator: {identity.operator_jwt()}",
        f"system_account: {identity.system_account}",
        "resolver {",
        "  type: full",
        f"  dir: {_text(directory / 'accounts')}",
        "  allow_delete: false",
        "}",
        "resolver_preload {",
        preload,
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _cluster(routes: Routes) -> list[str]:
    urls = [f"  {_text(f'nats-route://route:{routes.password}@{each}')}" for each in routes.addresses]
    return [
        "cluster {",
        '  name: "overspill"',
        f"  port: {routes.port}",
        f"  authorization {{ user: route, password: {_text(routes.password)} }}",
        "  routes: [",
        *urls,
        "  ]",
        "}",
    ]


def _text(value: object) -> str:
    """A quoted string as the configuration wants it."""
    return orjson.dumps(str(value)).decode()
