"""Bytes by presigned address, from and to a small HTTP server."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from runner.step_ctl.transfer import TransferRefused, download, upload
from shared.errors import Unavailable
from shared.requests import Presigned


class Store(BaseHTTPRequestHandler):
    objects: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        match self.path:
            case "/down":
                self.send_error(503)
            case "/short":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"half")
            case path if path in self.objects:
                self.send_response(200)
                self.send_header("Content-Length", str(len(self.objects[path])))
                self.end_headers()
                self.wfile.write(self.objects[path])
            case _:
                self.send_error(404)

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def store() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Store)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def at(url: str) -> Presigned:
    return Presigned(method="GET", url=url, key="k", expires_unix=0)


def test_what_was_put_is_got(store: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (tmp_path / "in").write_bytes(data)
    upload(at(f"{store}/a?signature=x"), tmp_path / "in")
    assert download(at(f"{store}/a?signature=x"), tmp_path / "out") == (len(data), hashlib.sha256(data).hexdigest())
    assert (tmp_path / "out").read_bytes() == data


def test_a_refusal_is_told_apart_from_an_outage(store: str, tmp_path: Path) -> None:
    with pytest.raises(TransferRefused, match="404"):
        download(at(f"{store}/nothing"), tmp_path / "out")
    for path in ("/down", "/short"):
        with pytest.raises(Unavailable):
            download(at(f"{store}{path}"), tmp_path / "out")
    with pytest.raises(Unavailable):
        download(at("http://127.0.0.1:1/x"), tmp_path / "out")
