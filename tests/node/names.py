"""Cluster DNS for a node without kube-proxy: a Service's name is answered with its ready pods' own addresses.

So a Service of this node is reached at its pods' ports. Names outside the cluster do not exist: pods do not get there.
"""

import contextlib
import json
import socketserver
import struct
import threading
import urllib.error
from collections.abc import Callable, Iterator

from tests.node import network

ZONE = "svc.cluster.local"
_HEADER = struct.Struct("!6H")
_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0100
_SERVER_FAILURE, _NO_SUCH_NAME = 2, 3
_ADDRESS, _INTERNET = 1, 1

Ask = Callable[[str], str]
"""The API server's answer to a path. Raises urllib.error.HTTPError, OSError."""


@contextlib.contextmanager
def answering(ask: Ask) -> Iterator[None]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            question, back = self.request
            back.sendto(answer(question, ask), self.client_address)

    with socketserver.ThreadingUDPServer((network.HOST, 53), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="cluster-dns")
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def answer(question: bytes, ask: Ask) -> bytes:
    """RFC 1035, one question a message; addresses are not to be kept (TTL 0), for pods come and go."""
    identity, flags, *_ = _HEADER.unpack_from(question)
    labels, end = _labels(question)
    kind, _ = struct.unpack_from("!2H", question, end)
    code = 0
    try:
        found = _addresses(labels, ask)
    except OSError:
        found, code = None, _SERVER_FAILURE
    if found is None and not code:
        code = _NO_SUCH_NAME
    records = [
        struct.pack("!3HIH4B", 0xC000 | _HEADER.size, _ADDRESS, _INTERNET, 0, 4, *map(int, address.split(".")))
        for address in (found or () if kind == _ADDRESS else ())
    ]
    told = _RESPONSE | _AUTHORITATIVE | flags & _RECURSION_DESIRED | code
    header = _HEADER.pack(identity, told, 1, len(records), 0, 0)
    return header + question[_HEADER.size : end + 4] + b"".join(records)


def _labels(message: bytes) -> tuple[list[str], int]:
    """Of the question, and where its type begins."""
    labels, at = [], _HEADER.size
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return labels, at + 1


def _addresses(labels: list[str], ask: Ask) -> list[str] | None:
    """None: there is no such name. Of a Service, or of one pod of it, by its host name."""
    zone = ZONE.split(".")
    head = labels[: -len(zone)]
    if labels[-len(zone) :] != zone or len(head) not in (2, 3):
        return None
    *host, service, namespace = head
    try:
        found = json.loads(ask(f"/api/v1/namespaces/{namespace}/endpoints/{service}"))
    except urllib.error.HTTPError as refused:
        if refused.code == 404:
            return None
        raise
    ready = [each for subset in found.get("subsets") or () for each in subset.get("addresses") or ()]
    if host:
        ready = [each for each in ready if each.get("hostname") == host[0]]
    return [each["ip"] for each in ready] if ready or not host else None
