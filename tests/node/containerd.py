"""containerd with nerdctl, with a store, a socket and networks of its own."""

import json
import os
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.containers.containerd import Containerd, Sandbox
from runner.entrypoint.build import binary
from tests.kube import assets
from tests.node.containers import called, common_settings, fill

PACKAGES = ("containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "busybox-static")
_BRIDGE = "nerdctl0"
_START_SECONDS = 60.0


@dataclass
class ContainerdStore:
    home: Path
    nerdctl: Path
    step_ctl: str = ""
    daemon: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def command(self) -> list[str]:
        home = self.home
        where = ["--address", f"{home}/containerd.sock", "--data-root", f"{home}/nerdctl"]
        return [str(self.nerdctl), "--namespace", "overspill", *where, "--cni-path", "/usr/lib/cni",
                "--cni-netconfpath", f"{home}/cni"]  # fmt: skip

    @property
    def runtime(self) -> Containerd:
        root = self.home / "sandbox"
        root.mkdir(exist_ok=True)
        return Containerd(self.command, Sandbox(root, binary()))

    def settings(self, network: str = "none") -> dict[str, str]:
        return {
            "OVERSPILL_AGENT_ISOLATION": "containerd",
            "OVERSPILL_AGENT_CONTAINERD": json.dumps(self.command),
            **common_settings(self, network),
        }

    def call(self, *words: str) -> str:
        return called(self.command, *words)

    def start(self) -> None:
        home = self.home
        config = home / "containerd.toml"
        config.write_text(
            f"""version = 2
root = "{home}/store"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.restart",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{home}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{home}/opt"
"""
        )
        told = home / "ready.sock"
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (home / "containerd.log").open("ab") as log:
            ready.bind(str(told))
            ready.settimeout(_START_SECONDS)
            environment = {**os.environ, "NOTIFY_SOCKET": str(told)}
            command = ["containerd", "--config", str(config)]
            self.daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            assert ready.recv(4096).startswith(b"READY=1"), (home / "containerd.log").read_text()

    def kill(self) -> None:
        """The daemon; its containers live on."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def stop(self) -> None:
        """Fails when anything of it outlives it."""
        assert self.daemon is not None
        left = self.call("ps", "--all", "--quiet").split()
        if left:
            self.call("rm", "--force", "--volumes", *left)
        for pid in _processes(self.home):  # shims and loggers go an instant after their containers
            _until_gone(pid)
        self.daemon.terminate()
        self.daemon.wait(_START_SECONDS)
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.home) in line]
        assert mounts == []
        shutil.rmtree(self.home)
        for path in Path("/sys/fs/cgroup").glob("*/overspill/step-ctl"):
            path.rmdir()


def _processes(home: Path) -> list[int]:
    """Shims and loggers, by their command lines."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            line = each.read_bytes().decode(errors="replace")
            if str(home) in line and ("shim" in line or "LOGGING" in line):
                found.append(int(each.parent.name))
    return found


def _until_gone(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], _START_SECONDS)[0], f"{pid} outlives its container"
    finally:
        os.close(fd)


@contextmanager
def store(home: Path) -> Iterator[ContainerdStore]:
    assets.ensure_packages(PACKAGES)
    made = ContainerdStore(home, assets.ensure(["nerdctl"]) / "nerdctl")
    had_bridge = Path("/sys/class/net", _BRIDGE).exists()
    made.start()
    try:
        made.step_ctl = fill(made)
        yield made
    finally:
        made.stop()
        if not had_bridge and Path("/sys/class/net", _BRIDGE).exists():
            subprocess.run(["ip", "link", "delete", _BRIDGE], check=True)
