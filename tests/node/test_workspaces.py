"""What comes into a pod's workspace and what is kept of it, though step-ctl and the steps are different users."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shared.flow import Ask
from shared.requests import Presigned, UrlsAsked, UrlsTold
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import forge, network


async def test_a_job_runs_on_the_commit_and_the_submodules_that_git_brings(
    hub: Hub, controller: ControllerProcess, pods: Kubelet, tmp_path: Path
) -> None:
    root = tmp_path / "repositories"
    root.mkdir()
    forge.commit(root / "tool", {"tool": "of a submodule\n"}, {})
    forge.commit(root / "project", {"greeting": "hello\n"}, {"lib": "../tool"})
    steps = [{"run": "cat greeting lib/tool"}, {"run": "echo more >>greeting; cat greeting"}]
    with forge.serving(root) as url:
        source = {"git": f"{url}/project", "ref": "main", "submodules": True}
        order = await hub.order({"name": "git", "source": source, "steps": steps}, "kube")
        ended = await hub.ended(order)
    told = (await hub.log(order.job, 0)).data.decode()
    assert ended.outcome == "succeeded", (ended, told, controller.complaints()[-3000:])
    assert [(await hub.log(order.job, step)).data for step in (1, 2)] == [b"hello\nof a submodule\n", b"hello\nmore\n"]
    assert "Source: commit" in told
    await pods.until_gone(name_of(order))


@dataclass
class Store:
    """Takes whatever is put; `url` as pods reach it."""

    url: str = ""
    kept: dict[str, bytes] = field(default_factory=dict)

    async def urls(self, _: Ask, asked: UrlsAsked) -> UrlsTold:
        put = {
            name: Presigned(method="PUT", key=name, url=f"{self.url}/{name}", expires_unix=2**31)
            for name in asked.artifacts
        }
        return UrlsTold(artifacts=put)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            made.kept[self.path.removeprefix("/")] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://{network.HOST}:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, name="store")
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


async def test_what_a_root_step_made_for_itself_alone_is_kept_as_an_artifact(
    hub: Hub, controller: ControllerProcess, pods: Kubelet, store: Store
) -> None:
    hub.urls = store.urls
    made = "id -u; umask 077; mkdir -p out/deep other; echo secret >out/deep/key; echo x >other/x"
    spec = {
        "name": "private",
        "steps": [{"run": made}, {"run": "ls -ld out/deep/key other"}],
        "artifacts": [{"name": "keys", "paths": ["out/**"]}],
    }
    order = await hub.order(spec, "kube")
    ended = await hub.ended(order)
    told = (await hub.log(order.job, 0)).data.decode()
    assert ended.outcome == "succeeded", (ended, told, controller.complaints()[-3000:])
    assert (await hub.log(order.job, 1)).data == b"0\n", "as root"
    with tarfile.open(fileobj=io.BytesIO(store.kept["keys"])) as kept:
        assert [member.name for member in kept.getmembers()] == ["out/deep/key"]
    key, other = (await hub.log(order.job, 2)).data.decode().splitlines()
    assert (key.split()[0], other.split()[0][1:]) == ("-rw-r-----", "rwx--S---"), "no more than what is kept"
    await pods.until_gone(name_of(order))
