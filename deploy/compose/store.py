"""The object store of compose.yaml: SeaweedFS for the network of the compose file, with the keys of the volume `keys`.

Its S3 door alone is published; its inner doors take requests signed with keys that nobody else has.
"""

import os
import secrets
import socket
from pathlib import Path

from overspill.embedded.binaries import weed

DATA = Path("/data")
SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


def main() -> None:
    key, secret = Path("/keys/s3").read_text().split()
    inner = "".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in SECTIONS)
    Path("/tmp/security.toml").write_text(inner)  # noqa: S108 - a file system of this container alone
    here = socket.gethostbyname(socket.gethostname())
    command = [str(weed()), "mini", f"-dir={DATA}", f"-ip={here}", "-ip.bind=0.0.0.0", "-bucket=overspill"]
    command += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    os.chdir("/tmp")  # noqa: S108 - where it looks for security.toml
    os.execve(  # noqa: S606 - no shell is wanted
        command[0],
        command,
        {**os.environ, "HOME": "/tmp", "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},  # noqa: S108
    )


if __name__ == "__main__":
    main()
