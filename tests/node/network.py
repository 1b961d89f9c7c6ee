"""The node's pod network: one bridge. Pods reach each other, the API server and this machine's loopback; nothing else.

Whatever listens on 127.0.0.1 is reached by a pod at HOST, at the same port: so tests' own buses and stores.
"""

import json
import subprocess
from pathlib import Path

BRIDGE = "overspill0"
HOST = "10.246.0.1"
PODS = "10.246.0.0/24"
API_SERVICE = "10.96.0.1"
NAME = "overspill-node"
"""Of the CNI network; its state on disk carries it too."""
_CHAIN = "OVERSPILL-NODE"
_CNI_RESULTS = Path("/var/lib/cni/results")


def lay(cni: Path, api_port: int) -> None:
    """`cni`: the folder for the runtime's network configuration."""
    take_away()
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    for setting in ("ip_forward", f"conf/{BRIDGE}/route_localnet"):
        Path("/proc/sys/net/ipv4", setting).write_text("1")
    _run("iptables", "-w", "-t", "nat", "-N", _CHAIN)
    to_loopback = ("-p", "tcp", "-j", "DNAT", "--to-destination")
    api = ("-d", API_SERVICE, "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination", f"127.0.0.1:{api_port}")
    _run("iptables", "-w", "-t", "nat", "-A", _CHAIN, *api)
    _run("iptables", "-w", "-t", "nat", "-A", _CHAIN, "-d", HOST, *to_loopback, "127.0.0.1")
    for table, rule in _JUMPS:
        _run("iptables", "-w", "-t", table, "-I", *rule)
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(cni / "addresses"),
            "ranges": [[{"subnet": PODS, "gateway": HOST}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    cni.mkdir(parents=True)
    (cni / "bridge.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": NAME, "plugins": [bridge]}))


_JUMPS = (
    ("nat", ("PREROUTING", "-i", BRIDGE, "-j", _CHAIN)),
    ("filter", ("FORWARD", "-i", BRIDGE, "!", "-o", BRIDGE, "-j", "REJECT")),
)


def take_away() -> None:
    """Also what a node that was killed has left."""
    for table, rule in _JUMPS:
        while _done("iptables", "-w", "-t", table, "-D", *rule):
            pass
    for how in ("-F", "-X"):
        _done("iptables", "-w", "-t", "nat", how, _CHAIN)
    _done("ip", "link", "del", BRIDGE)
    for file in _CNI_RESULTS.glob(f"{NAME}-*"):
        file.unlink()


def _run(*command: str) -> None:
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{' '.join(command)}: {told.stderr}"


def _done(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
