"""`python -m tests.node.demo` (`make kube-demo`): the whole platform on a real Kubernetes node, and a job in its pods.

Stays until Ctrl-C where a person looks on; EXIT=1, or no terminal, ends it with the job. The exit code is the job's.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.runner.hub import ROOT
from tests.kube import assets
from tests.node import node
from tests.node.platform import CLUSTER, Platform

JOB = ROOT / "examples/kubernetes/build.yaml"
NAMESPACE = "overspill"
PROGRAMS = ("helm", "kubectl")


def main() -> int:
    if os.geteuid():
        say("make kube-demo starts a containerd and a kubelet: run it as root")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        say("Kubernetes' programs (built once, which takes minutes and needs Go)")
        assets.ensure([*assets.NODE, *PROGRAMS])
        with tempfile.TemporaryDirectory(prefix="n-") as home:
            return on_a_node(Path(home))
    except KeyboardInterrupt:
        say("ended")
        return 130
    except assets.NoAssets as missing:
        say(str(missing))
        return 1


def on_a_node(home: Path) -> int:
    say("a Kubernetes node: etcd, kube-apiserver, controllers, containerd, kubelet")
    with node.running(home) as started:
        platform = Platform(started, NAMESPACE, home)
        say("images, made without Docker, and disks")
        platform.prepare()
        say("helm install hub deploy/helm/overspill, with its own NATS and S3")
        platform.install_hub()
        say(f"overspill clusters join {CLUSTER}")
        joining = platform.join()
        say("helm install edge deploy/helm/overspill-edge " + " ".join(f"--set {k}={v}" for k, v in joining.items()))
        platform.install_edge(joining)
        shown = JOB.relative_to(ROOT)
        say(f"overspill run {shown}")
        environment = {**os.environ, **platform.environment(), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "overspill", "run", str(JOB), "--no-source"]
        code = subprocess.run(command, env=environment, check=False).returncode
        if sys.stdout.isatty() and not os.environ.get("EXIT"):
            stay(platform)
        say("everything goes")
    return code


def stay(platform: Platform) -> None:
    kubeconfig = platform.node.plane.kubeconfig
    lines = [
        f"export KUBECONFIG={kubeconfig} PATH={assets.directory()}:{ROOT / '.venv/bin'}:$PATH",
        *(f"export {name}={value}" for name, value in platform.environment().items()),
        "kubectl get pods -A        # hub, bus, store and edge; a job's pod goes when its end is told",
        "overspill show             # the job; also: overspill clusters, overspill run examples/kubernetes/build.yaml",
    ]
    say("it runs until Ctrl-C. To look around, in another terminal:\n\n    " + "\n    ".join(lines) + "\n")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def say(text: str) -> None:
    sys.stdout.write(f"\n== {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
