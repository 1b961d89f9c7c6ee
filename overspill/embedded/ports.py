"""Free ports of the loopback, the same again where possible: what was told of an address stays true over a restart."""

import contextlib
import errno
import random
import socket
from pathlib import Path

import orjson

from shared.errors import OverspillError

# Below the kernel's range for outgoing connections (from 32768 on), so that none of those takes a port between our look
# and the server's bind.
_FIRST, _LAST = 12_000, 22_000
_TRIES = 500


class NoFreePort(OverspillError):
    """No free port was found on 127.0.0.1 between 12000 and 22000; end what listens there."""

    code = "no_free_port"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def free_port(taken: set[int], *, companion: int = 0) -> int:
    """A port nobody listens on, nor on `port + companion`, and that is not in `taken`, where it is then noted.

    Raises NoFreePort.
    """
    for _ in range(_TRIES):
        port = random.randrange(_FIRST, _LAST)  # noqa: S311 - not a secret
        both = {port, port + companion}
        if not both & taken and all(is_free(each) for each in both):
            taken |= both
            return port
    raise NoFreePort


def remembered(path: Path) -> dict[str, int]:
    """The ports that were used last by these names, empty when unknown."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError, ValueError, AttributeError):
        return {str(name): int(port) for name, port in orjson.loads(path.read_bytes()).items()}
    return {}


def remember(path: Path, ports: dict[str, int]) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(orjson.dumps(ports))
    beside.replace(path)


def choose(names: tuple[str, ...], last: dict[str, int], *, companion: int = 0) -> dict[str, int]:
    """A free port for each name: the last one, if it still is. Raises NoFreePort."""
    taken: set[int] = set()
    chosen: dict[str, int] = {}
    for name in names:
        port = last.get(name, 0)
        if port > 0 and not {port, port + companion} & taken and is_free(port) and is_free(port + companion):
            taken |= {port, port + companion}
            chosen[name] = port
    return {name: chosen[name] if name in chosen else free_port(taken, companion=companion) for name in names}
