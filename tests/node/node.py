"""The node itself: a kubelet over the runtime, joined to a control plane of its own.

There is one on a machine at a time, whoever starts it: a second waits. What a killed one left is taken away first.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.docker import builder
from overspill.embedded.ports import choose
from tests.kube import assets
from tests.kube.control_plane import ControlPlane
from tests.node import groups, names, network
from tests.node.runtime import Runtime

NAME = "node-1"
HOME_NAME = "overspill-node"
"""Mounts below a folder of this name are a node's."""
PACKAGES = ("containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "busybox-static")
_LOCK = Path("/run/lock/overspill-node.lock")
_SUPER_USER_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass
class Node:
    """Use `running`. `plane.kill("kubelet")` and `plane.restart("kubelet")` play its death."""

    home: Path
    plane: ControlPlane = field(init=False)
    runtime: Runtime = field(init=False)
    kubelet_url: str = field(init=False)
    _images: set[str] = field(default_factory=set)
    _names: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        binaries = assets.ensure(assets.NODE)
        self.plane = ControlPlane(self.home, advertise=network.HOST, extra_hosts=(network.HOST,), binaries=binaries)
        self.plane.start()
        self.plane.start_controllers()
        groups.make()
        self.runtime = Runtime(self.home)
        network.lay(self.runtime.cni, int(self.plane.url.rsplit(":", 1)[1]))
        self._names.enter_context(names.answering(self.plane.text))
        self.plane.run("containerd", self.runtime.command())
        self.plane.until("containerd", self.runtime.is_ready)
        self.runtime.add_busybox()
        self.plane.run("kubelet", [str(binaries / "kubelet"), *self._kubelet()])
        self.plane.until("kubelet", self.is_ready)

    def is_ready(self) -> bool:
        conditions = self.plane.call("GET", f"/api/v1/nodes/{NAME}")["status"].get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def image(self, kind: str) -> str:
        """The name of an image of deploy/docker, which the node has from then on."""
        made = builder.image(kind)
        if made.name not in self._images:
            self.runtime.add(made)
            self._images.add(made.name)
        return made.name

    def look_at_images(self) -> None:
        """A kubelet does every half minute, and when it starts: so it starts anew."""
        self.plane.kill("kubelet")
        self.plane.restart("kubelet")
        self.plane.until("kubelet", self.is_ready)

    def stop(self) -> None:
        """Servers first: nothing may start again what is ended next."""
        self._names.close()
        self.plane.stop(sparing=("containerd",))
        groups.end()
        self.plane.stop()
        sweep()
        for name in ("store", "state", "etcd", "busybox"):
            shutil.rmtree(self.home / name, ignore_errors=True)  # big; the logs stay

    def _kubelet(self) -> list[str]:
        authority = self.plane.authority
        who = f"system:node:{NAME}"
        own = authority.server(who, [network.HOST, NAME])
        kubeconfig = self.plane.write_kubeconfig("kubelet", authority.client(who, ["system:nodes"]))
        config = self.home / "kubelet.json"
        config.write_text(json.dumps(self._configuration(str(own.certificate), str(own.key))))
        resolver = self.home / "resolv.conf"
        resolver.write_text(f"nameserver {network.HOST}\n")
        return [
            f"--kubeconfig={kubeconfig}",
            f"--config={config}",
            f"--root-dir={self.home / 'kubelet'}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.HOST}",
        ]

    def _configuration(self, certificate: str, key: str) -> dict[str, Any]:
        ports = choose(("kubelet", "health"), {})
        self.kubelet_url = f"https://{network.HOST}:{ports['kubelet']}"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": network.HOST,
            "port": ports["kubelet"],
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": ports["health"],
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.plane.authority.file)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": certificate,
            "tlsPrivateKeyFile": key,
            "containerRuntimeEndpoint": f"unix://{self.runtime.socket}",
            "podLogsDir": str(self.home / "pods"),
            "resolvConf": str(self.home / "resolv.conf"),
            "clusterDomain": "cluster.local",
            "clusterDNS": [network.HOST],
            # A tree of our own, on whatever kind of machine: the kubelet may not protect itself there, and need not.
            "cgroupRoot": f"/{groups.ROOT}",
            "cgroupDriver": "cgroupfs",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "featureGates": {"KubeletInUserNamespace": True},
            "makeIPTablesUtilChains": False,
            # The disk is the machine's, and it may be full for reasons that are not ours.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "50Mi",
                **dict.fromkeys(
                    ("nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"), "0%"
                ),
            },
            "serializeImagePulls": False,
            "nodeStatusUpdateFrequency": "4s",
            "volumeStatsAggPeriod": "5s",
        }


def sweep() -> None:
    """What a node leaves behind, this one or one that was killed."""
    network.take_away()
    groups.end()
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if f"/{HOME_NAME}/" in each), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    logs = Path("/var/log/containers")
    for link in logs.iterdir() if logs.is_dir() else ():
        if link.is_symlink() and f"/{HOME_NAME}/" in str(link.readlink()):
            link.unlink()


@contextlib.contextmanager
def running(home: Path) -> Iterator[Node]:
    """`home` is made in a folder of its own below it. Raises NoAssets."""
    assert os.geteuid() == 0, "a real node needs root: run `make test-node` as root"
    os.environ["PATH"] = f"{os.environ['PATH']}:{_SUPER_USER_PATHS}"
    assets.ensure_packages(PACKAGES)
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep()
        node = Node(home / HOME_NAME)
        node.home.mkdir()
        try:
            node.start()
            yield node
        finally:
            node.stop()
