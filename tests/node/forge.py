"""git repositories over smart HTTP, as forges serve them: `git http-backend`, which comes with git, behind a server on
the loopback.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.node import http_server, network

_PERSON = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def commit(repository: Path, files: dict[str, str], modules: dict[str, str]) -> None:
    """A repository with one commit. `modules`: by path, the URL of a submodule as .gitmodules has it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(repository), "-c", "init.defaultBranch=main", *words]
        environment = {**os.environ, **_PERSON}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    repository.mkdir()
    git("init", "--quiet")
    sections = [f'[submodule "{path}"]\npath = {path}\nurl = {url}\n' for path, url in modules.items()]
    for name, text in (files | {".gitmodules": "".join(sections)}).items():
        (repository / name).write_text(text)
    git("add", ".")
    for path, url in modules.items():
        head = subprocess.run(
            ["git", "-C", str(repository / url), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        )
        git("update-index", "--add", "--cacheinfo", f"160000,{head.stdout.strip()},{path}")
    git("commit", "--quiet", "-m", "first")


def project(root: Path) -> None:
    """`project`, with a file and a submodule."""
    root.mkdir()
    commit(root / "tool", {"tool": "of a submodule\n"}, {})
    commit(root / "project", {"greeting": "hello\n"}, {"lib": "../tool"})


@contextlib.contextmanager
def serving(root: Path, host: str = network.HOST) -> Iterator[str]:
    """The repositories in `root`; their URL, by the name under which this machine's loopback is reached."""
    environment = {**os.environ, "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            path, _, query = self.path.partition("?")
            asked = self.rfile.read(int(self.headers["Content-Length"] or 0))
            about = {
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers["Content-Type"] or "",
                "CONTENT_LENGTH": str(len(asked)),
                "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
                "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
                "REMOTE_ADDR": self.client_address[0],
            }
            command = ["git", "-c", "safe.directory=*", "http-backend"]
            told = subprocess.run(command, env=environment | about, input=asked, check=True, capture_output=True).stdout
            head, _, body = told.partition(b"\r\n\r\n")
            headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with http_server.serving(Handler) as port:
        yield f"http://{host}:{port}"
