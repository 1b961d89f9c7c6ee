"""Settings of a controller: environment `OVERSPILL_CONTROLLER_…`; where the bus is comes from `OVERSPILL_NATS_…`."""

import socket
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.ids import ClusterId
from shared.version import VERSION
from shared.walls import Egress

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _own_namespace() -> str:
    return _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.is_file() else "default"


class Settings(BaseSettings):
    """Which cluster, and how its pods are made and watched."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_CONTROLLER_", extra="ignore")

    cluster: ClusterId = Field(description="as the platform knows it")
    kubeconfig: Path | None = Field(default=None, description="absent: the service account of the pod it runs in")
    identity: str = Field(default_factory=socket.gethostname, description="of this instance, in the lease")
    namespace: str = Field(default_factory=_own_namespace, description="where the controllers' lease is")
    lease_seconds: float = Field(default=6.0, gt=0, description="after so long without a word another instance leads")

    step_ctl_image: str = Field(default=f"overspill/step-ctl:{VERSION}", description="of the first container of a pod")
    default_image: str = Field(default="debian:bookworm-slim", description="of steps that name none")
    architecture: str = Field(default="amd64", description="of the nodes: which entrypoint a pod gets")
    entrypoints: dict[str, Path] = Field(
        default_factory=dict, description="binaries by architecture; empty: the one built for this machine"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="what every step gets on top of what its image sets, as JSON"
    )
    step_ctl_environment: dict[str, str] = Field(default_factory=dict, description="what step-ctl gets, as JSON")
    grace_seconds: float = Field(default=10.0, gt=0, description="between a step's SIGTERM and SIGKILL")
    log_limit_bytes: int = Field(default=1 << 30, ge=0, description="of one step; 0: no limit")

    orders_seconds: float = Field(default=10.0, gt=0, description="the orders are asked for at least so often")
    claims_at_once: int = Field(default=64, ge=1, description="pods that are being made at the same time")
    unschedulable_seconds: float = Field(default=120.0, gt=0, description="a pod waits for a node at most so long")
    obey_seconds: float = Field(
        default=30.0, gt=0, description="step-ctl has so long, past the steps' grace, to end what is not wanted"
    )
    linger_seconds: float = Field(default=600.0, gt=0, description="a pod whose job is over has so long for its logs")
    vanish_seconds: float = Field(
        default=15.0, gt=0, description="past its grace, a pod that is being deleted is taken for gone after so long"
    )
    keep_seconds: float = Field(default=10.0, ge=0, description="a pod that is over is deleted after so long")
    missing_seconds: float = Field(default=30.0, gt=0, description="a pod that nobody sees is lost after so long")

    prepull_images: int = Field(default=0, ge=0, description="so many of the most used step images are kept on nodes")
    prepull_disk_bytes: int = Field(default=20 * 2**30, gt=0, description="of a node, for those")
    prepull_node_selector: dict[str, str] = Field(default_factory=dict, description="of the nodes, as JSON")
    prepull_tolerations: list[dict[str, Any]] = Field(default_factory=list, description="of the pulling pods, as JSON")
    prepull_priority_class: str = Field(default="", description="of the pulling pods")

    walls_seconds: float = Field(default=30.0, gt=0, description="the tenants' walls are mended so often")
    egress: list[Egress] = Field(default_factory=list, description="bus and object store as pods reach them, as JSON")
    beat_seconds: float = Field(default=10.0, gt=0, description="the cluster's picture is told at least so often")
    silence_seconds: float = Field(
        default=120.0, gt=0, description="unheard so long, the cluster is lost: pods go on without their controller"
    )
