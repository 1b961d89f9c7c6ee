"""`python -m overspill.healthy port N | url URL | locked FILE`: whether a program in this container is there.

For health checks: words without a space, since there are engines that take a command apart at each.
"""

import fcntl
import socket
import sys
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 3.0


def main(kind: str, what: str) -> str | None:
    """What is wrong, if anything."""
    try:
        match kind:
            case "port":
                socket.create_connection(("127.0.0.1", int(what)), TIMEOUT_SECONDS).close()
            case "url":
                urllib.request.urlopen(what, timeout=TIMEOUT_SECONDS).close()  # noqa: S310 - the container's own
            case "locked":
                return None if _is_locked(Path(what)) else f"nobody holds {what}"
            case _:
                return f"port, url or locked, not {kind}"
    except OSError as error:
        return f"{what}: {error}"
    return None


def _is_locked(file: Path) -> bool:
    with file.open("r+") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
