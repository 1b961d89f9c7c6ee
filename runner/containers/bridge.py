"""Jobs that share a bridge don't reach one another by it: their ports on it are isolated."""

import contextlib
import json
from pathlib import Path

from runner.containers.calling import Program
from runner.containers.runtime import NotStarted

UNSHARED = ("none", "host")
"""Networks without a bridge."""
_INTERFACES = Path("/sys/class/net")


async def isolate(name: str, pid: int) -> None:
    """Between isolated ports nothing passes; each reaches what is beyond the bridge. `pid`: a process within the
    network. Before any step runs in it. Raises NotStarted, RuntimeGone.
    """
    told = await Program(("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "link")).call("show")
    if told.code != 0:
        raise NotStarted(name=name, why=f"its network can't be walled: {told.why}")
    ends = {str(link["link_index"]) for link in json.loads(told.out) if "link_index" in link}
    try:
        _isolate_ports(ends)
    except OSError as error:
        raise NotStarted(name=name, why=f"its network can't be walled: {error}") from error


def _isolate_ports(ends: set[str]) -> None:
    """Of the machine's interfaces those with one of these numbers, if they are a bridge's."""
    for interface in _INTERFACES.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another's, that is just going
            if (interface / "ifindex").read_text().strip() in ends and (interface / "brport").exists():
                (interface / "brport/isolated").write_text("1")
