"""Settings of an agent: environment `OVERSPILL_AGENT_…`; where the bus is comes from `OVERSPILL_NATS_…`."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.ids import ClusterId, MachineId, PoolId, token_from
from shared.version import VERSION

PASS_ENV = (
    "PIP_*",
    "UV_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_*",
    "npm_config_*",
    "YARN_*",
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GONOPROXY",
    "GOPRIVATE",
    "GOFLAGS",
    "GOTOOLCHAIN",
    "GOROOT",
    "CARGO_*",
    "RUSTUP_*",
    "PYENV_*",
    "MAVEN_OPTS",
    "MAVEN_ARGS",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "GRADLE_OPTS",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
)
"""Where package managers find their mirrors and certificates, and toolchains themselves."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OVERSPILL_AGENT_", extra="ignore")

    data: Path = Field(default=Path("/var/lib/overspill/agent"), description="attempts live below it")
    cluster: ClusterId = "local"
    machine: MachineId = Field(default_factory=lambda: token_from(socket.gethostname()))
    pool: PoolId = "local"
    labels: list[str] = Field(default_factory=list, max_length=64)
    cpu_millis: int | None = Field(default=None, gt=0, description="thousandths of a core to give; all when absent")
    memory_bytes: int | None = Field(default=None, gt=0)
    disk_bytes: int | None = Field(default=None, gt=0)
    pass_env: list[str] = Field(
        default_factory=lambda: list(PASS_ENV), description="names steps inherit from the agent, with * as wildcard"
    )
    home_files: list[str] = Field(
        default_factory=list, description="files of the agent's home to copy into each fresh HOME, such as .npmrc"
    )
    spares: int = Field(default=1, ge=0, le=32, description="step-ctl processes kept warm")
    grace_seconds: float = Field(default=10.0, ge=0, le=3600, description="between SIGTERM and SIGKILL of a step")
    drain_seconds: float = Field(default=30.0, ge=0, description="given to running attempts after SIGTERM")
    die_with_parent: bool = Field(default=False, description="nothing of an attempt survives the agent")
    log_limit_bytes: int = Field(default=2 * 2**30, ge=0, description="kept of one step's log; 0: no limit")
    orders_seconds: float = Field(default=10.0, gt=0, description="between two looks at the orders")
    beat_seconds: float = Field(default=2.0, gt=0)
    keep_untold_seconds: float = Field(
        default=86_400.0, gt=0, description="an attempt nobody could be told of is deleted after it"
    )

    isolation: Literal["process", "podman", "containerd"] = Field(
        default="process",
        description="podman, containerd: each step in a container of its image; the agent runs as root",
    )
    podman: list[str] = Field(
        default=["podman"], min_length=1, description="how it is called, with options for every command, as JSON"
    )
    containerd: list[str] = Field(
        default=["nerdctl", "--namespace", "overspill"],
        min_length=1,
        description="how nerdctl is called, with options for every command, as JSON",
    )
    step_ctl_image: str = Field(default=f"overspill/step-ctl:{VERSION}", description="beside the steps' containers")
    default_image: str = Field(default="debian:bookworm-slim", description="of steps that name none, in containers")
    network: str = Field(default="bridge", description="of a job's containers: bridge, none, host, or a network's name")
    pids_limit: int = Field(default=4096, gt=0, description="processes of one container")
    container_limit: int = Field(
        default=32, ge=2, description="containers of one job; past it foreground steps of one image share"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="what steps in containers get on top of what their image sets, as JSON"
    )
    obey_seconds: float = Field(
        default=30.0, gt=0, description="step-ctl in a container has so long, past the grace, to end what is not wanted"
    )
