"""`python -m overspill.bundled_keys`: the secrets of a hub whose bus and object store come with it.

It runs before the chart's install and upgrade, with rights of its own for that long. What is there is kept: keys are no
part of the release, so neither an upgrade nor a rollback makes others. The bus' configuration, which follows from the
keys, is written anew each time.
"""

import base64
import secrets
import sys
import tempfile
from pathlib import Path

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.adapters.identity import Identity
from shared.adapters.kube_api import KubeServer
from shared.adapters.nats_config import Routes, server_config
from shared.errors import NotFound, Rejected
from shared.kube import SECRET, KubeApi, KubeConflict, Resource
from shared.run import run_service

log = structlog.get_logger()

SEEDS = ("system.seed", "hub.seed", "operator.seed")
MONITOR = "127.0.0.1:8222"


class ReplicasFixed(Rejected):
    """The bus was made with {was} servers, and can't become one of {wanted}; set nats.bundled.replicas={was}."""


class Settings(BaseSettings):
    """Environment `OVERSPILL_KEYS_…`. Empty names: not to be made."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_KEYS_", extra="ignore")

    namespace: str
    identity_secret: str = ""
    bus_secret: str = ""
    token_secret: str = ""
    objects_secret: str = ""
    bus_servers: list[str] = Field(default_factory=list, description="host:port of all, as they reach each other")
    kubeconfig: Path | None = None


async def main() -> None:
    settings = Settings()
    async with KubeServer.connect(settings.kubeconfig) as api:
        await make(api, settings)


async def make(api: KubeApi, settings: Settings) -> None:
    """Idempotent. Raises ReplicasFixed, KubeRefused, Unavailable."""
    if settings.token_secret:
        token = f"osp_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        await _once(api, settings, settings.token_secret, {"token": token})
    if settings.objects_secret:
        key = f"overspill-{secrets.token_hex(8)}\n{secrets.token_hex(24)}\n"
        await _once(api, settings, settings.objects_secret, {"credentials": key})
    if settings.identity_secret:
        with tempfile.TemporaryDirectory() as scratch:
            await _bus(api, settings, Path(scratch) / "identity")


async def _bus(api: KubeApi, settings: Settings, directory: Path) -> None:
    Identity.create(directory)
    first = {name: (directory / name).read_text() for name in SEEDS}
    first |= {"routes": secrets.token_urlsafe(32), "replicas": str(len(settings.bus_servers))}
    kept = await _once(api, settings, settings.identity_secret, first)
    if kept["replicas"] != str(len(settings.bus_servers)):
        raise ReplicasFixed(was=kept["replicas"], wanted=len(settings.bus_servers))
    for name in SEEDS:
        (directory / name).write_text(kept[name])
    made = Identity.load(directory)
    routes = Routes(settings.bus_servers, kept["routes"]) if len(settings.bus_servers) > 1 else None
    text = server_config(
        *(made, Path("/data")),
        host="0.0.0.0",  # noqa: S104 - in a pod of its own
        port=4222,
        monitor=MONITOR,
        server_name="$POD_NAME",
        routes=routes,
    )
    await api.apply(SECRET, _secret(settings, settings.bus_secret, {"nats.conf": text}))


async def _once(api: KubeApi, settings: Settings, name: str, data: dict[str, str]) -> dict[str, str]:
    """What the secret holds: `data`, unless it was there before."""
    try:
        found = await api.get(SECRET, name, settings.namespace)
    except NotFound:
        try:
            found = await api.create(SECRET, _secret(settings, name, data))
            log.info("secret_made", secret=name)
        except KubeConflict:  # another was faster
            found = await api.get(SECRET, name, settings.namespace)
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def _secret(settings: Settings, name: str, data: dict[str, str]) -> Resource:
    about = {"name": name, "namespace": settings.namespace, "labels": {"app.kubernetes.io/part-of": "overspill"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": data}


if __name__ == "__main__":
    sys.exit(run_service("keys", main))
