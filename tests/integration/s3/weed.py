"""A real SeaweedFS of one's own, on free ports, in a temporary directory."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from shared.settings import ObjectSettings


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextlib.contextmanager
def running_weed(directory: Path, bucket: str = "overspill") -> Iterator[ObjectSettings]:
    binary = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert binary is not None
    key, secret = f"k{secrets.token_hex(8)}", secrets.token_hex(16)
    credentials = directory / "credentials"
    credentials.write_text(f"{key}\n{secret}\n")
    data = directory / "data"
    data.mkdir()
    # SeaweedFS adds 10000 for its gRPC ports: stay low.
    ports = [port % 20000 + 10000 for port in free_ports(6)]
    command = [
        binary, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={bucket}", "-webdav=false",
        "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.port={ports[0]}", f"-master.port={ports[1]}",
        f"-volume.port={ports[2]}", f"-filer.port={ports[3]}", f"-admin.port={ports[4]}",
    ]  # fmt: skip
    environment = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "HOME": str(directory),
        "PATH": os.environ["PATH"],
    }
    with (directory / "weed.log").open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=directory, start_new_session=True
        )
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/healthz", timeout=1).status_code == 200:
                    break
            assert process.poll() is None, (directory / "weed.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (directory / "weed.log").read_text()[-2000:]
            time.sleep(0.05)
        yield ObjectSettings(url=url, bucket=bucket, credentials_file=credentials)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
