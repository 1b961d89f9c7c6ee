"""A registry of images: what a kubelet pulls, over HTTP, as slowly as over a network.

The read-only part of the OCI distribution specification 1.1, with Basic authentication where asked for.
"""

import base64
import contextlib
import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from deploy.docker.oci import Image, archive
from tests.node import http_server, network

_CHUNK = 1 << 16


@dataclass
class Registry:
    """Use `running`. `login`: user and password, without which nothing is given."""

    address: str
    scratch: Path
    bytes_per_second: float = float("inf")
    """Of one connection, as a network's."""
    login: tuple[str, str] | None = None
    given: list[str] = field(default_factory=list)
    """Manifests by their tags, as they were asked for."""
    _blobs: dict[str, bytes] = field(default_factory=dict)
    _tags: dict[str, str] = field(default_factory=dict)

    def push(self, image: Image) -> str:
        """Under its own name, here. Returns that."""
        file = self.scratch / "image.tar"
        archive(image, file)
        with tarfile.open(file) as packed:
            for each in packed.getmembers():
                content = packed.extractfile(each)
                assert content is not None
                if each.name.startswith("blobs/"):
                    self._blobs[each.name.removeprefix("blobs/").replace("/", ":")] = content.read()
                elif each.name == "index.json":
                    (manifest,) = json.load(content)["manifests"]
                    self._tags[image.name] = manifest["digest"]
        file.unlink()
        return f"{self.address}/{image.name}"

    def find(self, path: str) -> tuple[str, str, bytes] | None:
        """Digest, media type, bytes."""
        for kind in ("manifests", "blobs"):
            name, found, reference = path.removeprefix("/v2/").partition(f"/{kind}/")
            if found:
                digest = self._tags.get(f"{name}:{reference}", reference)
                if kind == "manifests" and digest != reference:
                    self.given.append(f"{name}:{reference}")
                data = self._blobs.get(digest)
                media = "application/octet-stream" if kind == "blobs" else _media_type(data)
                return None if data is None else (digest, media, data)
        return None

    def pull_secret(self) -> str:
        """As `kubernetes.io/dockerconfigjson` has it."""
        assert self.login is not None
        user, password = self.login
        return json.dumps({"auths": {self.address: {"username": user, "password": password}}})


def _media_type(manifest: bytes | None) -> str:
    return str(json.loads(manifest)["mediaType"]) if manifest else ""


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(whole=False)

        def do_GET(self) -> None:
            self._answer(whole=True)

        def _answer(self, *, whole: bool) -> None:
            if registry.login is not None and self.headers["Authorization"] != _basic(registry.login):
                self._head(401, {"WWW-Authenticate": 'Basic realm="registry"', "Content-Length": "0"})
                return
            found = registry.find(self.path)
            if found is None:
                self._head(200 if self.path == "/v2/" else 404, {"Content-Length": "0"})
                return
            digest, media, data = found
            length = str(len(data))
            self._head(200, {"Docker-Content-Digest": digest, "Content-Type": media, "Content-Length": length})
            for at in range(0, len(data) if whole else 0, _CHUNK):
                self.wfile.write(data[at : at + _CHUNK])
                time.sleep(_CHUNK / registry.bytes_per_second)  # what a network would take

        def _head(self, code: int, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler


def _basic(login: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"


@contextlib.contextmanager
def running(scratch: Path) -> Iterator[Registry]:
    """On the node's bridge, while there is one."""
    registry = Registry("", scratch)
    with http_server.serving(_handler(registry), network.HOST) as port:
        registry.address = f"{network.HOST}:{port}"
        yield registry
