"""`python -m deploy.docker KIND --into FILE.tar`: an OCI archive; `--import SOCKET`: into a node's containerd."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.docker.builder import image
from deploy.docker.contents import CONTENTS
from deploy.docker.oci import archive


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.docker", description="Build an image without a registry.")
    parser.add_argument("kind", choices=sorted(CONTENTS))
    parser.add_argument("--name", help="overspill/KIND:VERSION by default")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--into", type=Path, metavar="FILE.tar", help="for `podman load`, `ctr images import`, `skopeo`")
    where.add_argument(
        "--import", dest="socket", metavar="SOCKET", help="a containerd's, as /run/containerd/containerd.sock"
    )
    options = parser.parse_args()
    made = image(options.kind, options.name)
    if options.into is not None:
        archive(made, options.into)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "image.tar"
        archive(made, file)
        command = ["ctr", "--address", options.socket, "--namespace", "k8s.io", "images", "import", str(file)]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
