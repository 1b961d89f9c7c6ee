"""`python -m tests.node`: a node to try things on, until Ctrl-C; its kubeconfig is printed when it is ready."""

import signal
import sys
import tempfile
from pathlib import Path

from tests.node import node


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="n-") as home, node.running(Path(home)) as started:
        sys.stdout.write(f"export KUBECONFIG={started.plane.kubeconfig}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
