"""Bytes to and from the object store by presigned address, with the standard library: no client's start-up, constant
memory.
"""

import errno
import hashlib
import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import OverspillError, Unavailable
from shared.requests import Presigned

BLOCK_BYTES = 1_048_576
TIMEOUT_SECONDS = 60.0
"""Without a byte moving."""
_SERVER_ERROR = 500


class TransferRefused(OverspillError):
    """The object store refused {what} with {status}: {why}"""

    code = "transfer_refused"


@contextmanager
def _exchange(
    method: str, url: str, headers: Mapping[str, str], body: Path | None
) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context(), blocksize=BLOCK_BYTES
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_SECONDS, blocksize=BLOCK_BYTES)
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        if body is None:
            connection.request(method, target, headers=dict(headers))
        else:
            with body.open("rb") as file:
                size = body.stat().st_size
                connection.request(method, target, body=file, headers={"Content-Length": str(size), **headers})
        yield connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # our own disk, not the store
        raise Unavailable(what=f"the object store at {host}", why=str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _check(response: http.client.HTTPResponse, what: str) -> None:
    if response.status < 300:  # noqa: PLR2004 - the HTTP success range
        return
    why = response.read(300).decode(errors="replace").strip() or response.reason
    if response.status >= _SERVER_ERROR:
        raise Unavailable(what="the object store", why=f"{response.status} {why}")
    raise TransferRefused(what=what, status=response.status, why=why)


def download(presigned: Presigned, target: Path) -> tuple[int, str]:
    """To a new file; returns size and sha256. Blocking: for a thread.

    Raises Unavailable, TransferRefused; OSError when the disk is full.
    """
    digest, size = hashlib.sha256(), 0
    with _exchange("GET", presigned.url, presigned.headers, None) as response:
        _check(response, "to read")
        with target.open("wb") as file:
            while block := response.read(BLOCK_BYTES):
                digest.update(block)
                file.write(block)
                size += len(block)
        if response.length:
            raise Unavailable(what="the object store", why=f"{response.length} bytes are missing at the end")
    return size, digest.hexdigest()


def upload(presigned: Presigned, source: Path) -> None:
    """Raises Unavailable, TransferRefused. Blocking: for a thread."""
    with _exchange("PUT", presigned.url, presigned.headers, source) as response:
        _check(response, "to store")
