"""containerd for the node, with a store of its own."""

import shutil
import subprocess
from pathlib import Path

from deploy.docker.oci import Image, archive

BUSYBOX, PAUSE = "localhost/busybox:1", "localhost/pause:1"
PAUSE_COMMAND = ("sleep", "2147483647")
_NAMESPACE = "k8s.io"


class Runtime:
    """`home` is short: a socket's path has 107 bytes."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.socket = home / "containerd.sock"
        self.cni = home / "cni"

    def command(self) -> list[str]:
        home = self._home
        config = home / "containerd.toml"
        config.write_text(
            f"""version = 2
root = "{home}/store"
state = "{home}/state"
# What a node does not need; one of them would start a second scan of every container.
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{home}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# In a container or a small virtual machine nobody may lower an oom score: runc then ends with "final child's PID".
restrict_oom_score_adj = true
disable_tcp_service = true
netns_mounts_under_state_dir = true
cni = {{ bin_dir = "/usr/lib/cni", conf_dir = "{self.cni}" }}
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{home}/registries"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options = {{ BinaryName = "{shutil.which("runc") or "/usr/sbin/runc"}", SystemdCgroup = false }}
"""
        )
        return ["containerd", "--config", str(config)]

    def is_ready(self) -> bool:
        told = self._ctr("plugins", "ls")
        return told.returncode == 0 and any(
            line.split()[:2] == ["io.containerd.grpc.v1", "cri"] and line.split()[-1] == "ok"
            for line in told.stdout.splitlines()
        )

    def add(self, image: Image) -> None:
        file = self._home / "image.tar"
        archive(image, file)
        told = self._ctr("images", "import", "--digests=false", str(file))
        assert told.returncode == 0, f"{image.name}: {told.stdout}{told.stderr}"
        file.unlink()

    def trust(self, registry: str) -> None:
        """`registry`: host and port of one that speaks plain HTTP. Read with each pull."""
        folder = self._home / "registries" / registry
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(f'[host."http://{registry}"]\ncapabilities = ["pull", "resolve"]\n')

    def forget(self, image: str) -> None:
        """As the kubelet's garbage collection does, and its content with it."""
        told = self._ctr("images", "rm", "--sync", *self._names_of(image))
        assert told.returncode == 0, f"{image}: {told.stdout}{told.stderr}"

    def images(self) -> list[str]:
        """Their names."""
        return self._ctr("images", "ls", "--quiet").stdout.split()

    def _names_of(self, image: str) -> list[str]:
        """The same image by digest and by id, as CRI keeps it, too."""
        listed = [line.split() for line in self._ctr("images", "ls").stdout.splitlines()[1:]]
        digest = next(words[2] for words in listed if words[0] == image)
        return [words[0] for words in listed if words[2] == digest]

    def add_busybox(self) -> None:
        """What tests run as steps, and what holds a pod's namespaces."""
        image = busybox(self._home / "busybox")
        self.add(image)
        self.add(Image(PAUSE, image.layers, command=PAUSE_COMMAND))

    def _ctr(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ["ctr", "--address", str(self.socket), "--namespace", _NAMESPACE, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def busybox(root: Path) -> Image:
    """Made in `root`."""
    (root / "bin").mkdir(parents=True)
    for name in ("proc", "sys", "dev", "etc", "root"):
        (root / name).mkdir()
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    program = root / "bin/busybox"
    shutil.copy(shutil.which("busybox") or "/bin/busybox", program)
    for applet in subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    return Image(BUSYBOX, (root,), command=("sh",))
