"""An object store that takes whatever is put, for what comes out of pods and containers."""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from shared.flow import Ask
from shared.requests import Presigned, UrlsAsked, UrlsTold
from tests.node import http_server, network


@dataclass
class Store:
    url: str = ""
    _kept: dict[str, bytes] = field(default_factory=dict)

    async def urls(self, _: Ask, asked: UrlsAsked) -> UrlsTold:
        """As the cache service tells them."""
        put = {
            name: Presigned(method="PUT", key=name, url=f"{self.url}/{name}", expires_unix=2**31)
            for name in asked.artifacts
        }
        return UrlsTold(artifacts=put)

    def names(self, artifact: str) -> list[str]:
        """Of the files in it."""
        with tarfile.open(fileobj=io.BytesIO(self._kept[artifact])) as packed:
            return packed.getnames()

    def put(self, key: str, data: bytes) -> None:
        self._kept[key] = data


@contextlib.contextmanager
def serving(host: str = network.HOST) -> Iterator[Store]:
    """`host`: the name under which this machine's loopback is reached."""
    made = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            made.put(self.path.removeprefix("/"), self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with http_server.serving(Handler) as port:
        made.url = f"http://{host}:{port}"
        yield made
