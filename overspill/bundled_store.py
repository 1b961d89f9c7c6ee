"""`python -m overspill.bundled_store`: one SeaweedFS for a network of containers; for trying out, it is kept once.

Its S3 door alone is published; its inner doors take requests signed with keys that nobody else has.
"""

import os
import secrets
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from overspill.embedded.binaries import weed

SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_SCRATCH = Path("/tmp")  # noqa: S108 - a file system of this container alone


class Settings(BaseSettings):
    """Environment `OVERSPILL_STORE_…`."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_STORE_", extra="ignore")

    data: Path = Path("/data")
    bucket: str = "overspill"
    credentials_file: Path
    """Two lines: access key id, secret access key."""


def main() -> None:
    settings = Settings()
    key, secret = settings.credentials_file.read_text().split()
    inner = "".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in SECTIONS)
    (_SCRATCH / "security.toml").write_text(inner)
    # The disk remembers its parts by this address; a pod that comes back to the disk has another of its own.
    command = [str(weed()), "mini", f"-dir={settings.data}", "-ip=127.0.0.1", "-ip.bind=0.0.0.0"]
    command += [f"-bucket={settings.bucket}", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0"]
    command += ["-s3.port.lance=0", "-master.telemetry=false"]
    os.chdir(_SCRATCH)  # where it looks for security.toml
    environment = {"HOME": str(_SCRATCH), "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    os.execve(command[0], command, {**os.environ, **environment})  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
