"""An HTTP server in a thread of its own, for what a test's pods and containers ask."""

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> Iterator[int]:
    """Its port. Nothing is written to stderr."""
    silent = type(handler.__name__, (handler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer((host, 0), silent) as server:
        thread = Thread(target=server.serve_forever, name=handler.__module__)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
