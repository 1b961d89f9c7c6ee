"""podman with a store of its own."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.containers.podman import Podman
from tests.kube.assets import ensure_packages
from tests.node.containers import called, common_settings, fill

PACKAGES = ("podman", "catatonit", "netavark", "runc", "busybox-static")
_RUNC = """#!/usr/bin/python3 -SEs
# Who may not raise limits is refused by runc: the containers' are as this process has them.
import json, os, sys
words = sys.argv[1:]
if "create" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"].pop("rlimits", None)
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *words])
"""


@dataclass
class PodmanStore:
    home: Path
    step_ctl: str = ""

    @property
    def command(self) -> list[str]:
        home = self.home
        where = ["--root", str(home / "store"), "--runroot", str(home / "run"), "--runtime", str(home / "runc")]
        return ["podman", *where, "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

    @property
    def runtime(self) -> Podman:
        return Podman(self.command)

    def settings(self, network: str = "none") -> dict[str, str]:
        return {
            "OVERSPILL_AGENT_ISOLATION": "podman",
            "OVERSPILL_AGENT_PODMAN": json.dumps(self.command),
            **common_settings(self, network),
        }

    def call(self, *words: str) -> str:
        return called(self.command, *words)


@contextmanager
def store(home: Path) -> Iterator[PodmanStore]:
    ensure_packages(PACKAGES)
    made = PodmanStore(home)
    (home / "runc").write_text(_RUNC)
    (home / "runc").chmod(0o755)
    made.step_ctl = fill(made)
    try:
        yield made
    finally:
        made.call("pod", "rm", "--all", "--force", "--time", "0")
        made.call("rm", "--all", "--force", "--time", "0")
        subprocess.run(["umount", "--lazy", str(home / "store" / "overlay")], capture_output=True, check=False)
        for name in ("store", "run", "busybox"):
            shutil.rmtree(home / name, ignore_errors=True)
