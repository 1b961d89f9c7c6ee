"""What a pool's pods look like: records, so that a cloud's serverless containers are configuration and not code."""

from typing import Any, Literal

from pydantic import Field

from shared.wire import Model

KUBE = "kube"
"""The target of orders for pods, and the name under which a cluster's controller beats."""


class PodTemplate(Model):
    """Laid over every pod of a pool. ECI, ACS, Fargate, ACI and GKE Autopilot are such records."""

    labels: dict[str, str] = Field(default_factory=dict, max_length=32)
    annotations: dict[str, str] = Field(default_factory=dict, max_length=64)
    node_selector: dict[str, str] = Field(default_factory=dict, max_length=32)
    tolerations: list[dict[str, Any]] = Field(default_factory=list, max_length=32)
    runtime_class: str | None = Field(default=None, max_length=63)
    """`runtimeClassName`: runC when absent; runV, Kata, gVisor by their names."""
    image_pull_secrets: list[str] = Field(default_factory=list, max_length=16)
    container_limit: int = Field(default=100, ge=2, le=200)
    """Containers a pod may have, step-ctl's included."""
    share_containers: Literal["auto", "limit"] = "auto"
    """`auto`: foreground steps of one image share a container in turn. `limit`: only past `container_limit`."""
    pod_resources: bool = True
    """The API server knows resources of whole pods (Kubernetes 1.34 and later)."""
    entrypoint_from: Literal["config-map", "init-container"] = "config-map"
    """How the entrypoint reaches the steps' containers. `config-map`: that of the `kubernetes.io/arch` which the
    `node_selector` names, else of the architecture that the controller is set to. `init-container`: from step-ctl's
    image, where no ConfigMap's file may be executed; one container more to start first.
    """
    run_as_user: int | None = Field(default=None, ge=1)
    """Of every step, whatever its image says; None: the image's own user."""
