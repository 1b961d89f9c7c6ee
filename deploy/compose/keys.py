"""What the services of compose.yaml show each other, made once in the volume `keys`; what is there is kept."""

import os
import secrets
from pathlib import Path

from overspill.hub_seed import CLUSTER, TENANT
from shared.adapters.identity import Identity
from shared.adapters.nats_config import SYNC_INTERVAL_SECONDS, server_config
from shared.parties import machine_party, service_party

KEYS = Path("/keys")
MACHINE = "compose"


def main() -> None:
    os.umask(0o077)
    identity = Identity.open(KEYS / "identity")
    identity.add_tenant(TENANT)
    identity.add_cluster(CLUSTER)
    bus = server_config(identity, Path("/data"), host="0.0.0.0", port=4222, sync_interval_seconds=SYNC_INTERVAL_SECONDS)  # noqa: S104 - inside the network of the compose file
    once = {
        "token": f"osp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}\n",
        "s3": f"overspill-{secrets.token_hex(8)}\n{secrets.token_hex(24)}\n",
    }
    fresh = {
        "nats.conf": bus,
        "agent.creds": identity.credential(machine_party(CLUSTER, MACHINE), cluster=CLUSTER).to_file_text(),
        "service.creds": identity.credential(service_party(TENANT), tenant=TENANT).to_file_text(),
    }
    for name, text in (once | fresh).items():
        if name in fresh or not (KEYS / name).exists():
            (KEYS / f"{name}.new").write_text(text)
            (KEYS / f"{name}.new").replace(KEYS / name)


if __name__ == "__main__":
    main()
