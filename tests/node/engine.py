"""podman, with a store of its own and its Docker door open, for what is written for Docker."""

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.docker.oci import Image, archive

PACKAGES = ("podman", "netavark", "aardvark-dns", "runc", "busybox-static")
_CEILING = 4096
_LOOK_SECONDS = 1.0
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
            "DOCKER_HOST": f"unix://{self.home}/podman.sock",
        }

    def command(self, *words: str) -> list[str]:
        return ["podman", "--root", str(self.home / "store"), "--runroot", str(self.home / "run"), *words]

    def run(self, *words: str) -> str:
        told = subprocess.run(
            self.command(*words), env=self.environment, cwd="/", capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, f"podman {' '.join(words)}: {told.stderr}"
        return told.stdout

    def load(self, image: Image) -> None:
        file = self.home / "image.tar"
        archive(image, file)
        self.run("load", "--quiet", "--input", str(file))
        file.unlink()


@contextlib.contextmanager
def running() -> Iterator[Engine]:
    home = Path(tempfile.mkdtemp(prefix="engine-"))  # short: a socket's path has 107 bytes
    engine = Engine(home)
    (home / "networks").mkdir()
    # Its own ceilings are above what a container or a small virtual machine may set.
    files = min(_CEILING, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    (home / "containers.conf").write_text(
        f"""[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={_CEILING}:{_CEILING}"]
[network]
network_backend = "netavark"
network_config_dir = "{home}/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
    )
    done = threading.Event()
    checks = threading.Thread(target=_check_health, args=(engine, done))
    with (home / "podman.log").open("wb") as said:
        serve = engine.command("system", "service", "--time=0", f"unix://{home}/podman.sock")
        process = subprocess.Popen(serve, env=engine.environment, cwd="/", stdout=said, stderr=said)
    try:
        _until_there(home / "podman.sock")
        checks.start()
        yield engine
    finally:
        done.set()
        if checks.ident is not None:
            checks.join()
        engine.run("rm", "--all", "--force", "--time=2")
        process.terminate()
        process.wait(_START_SECONDS)
        for mounted in ("store/overlay", "store"):
            subprocess.run(["umount", "--lazy", str(home / mounted)], capture_output=True, check=False)
        shutil.rmtree(home)


def _until_there(socket: Path) -> None:
    waits = threading.Event()
    for _ in range(round(_START_SECONDS / 0.1)):
        if socket.exists():
            return
        waits.wait(0.1)
    raise AssertionError(socket.with_name("podman.log").read_text())


def _check_health(engine: Engine, done: threading.Event) -> None:
    """What systemd's timers do for podman, where there is a systemd. A container without a check says so."""
    while not done.wait(_LOOK_SECONDS):
        for container in engine.run("ps", "--quiet").split():
            command = engine.command("healthcheck", "run", container)
            subprocess.run(command, env=engine.environment, cwd="/", capture_output=True, check=False)
